"""The report of what was served, until the Oracle has accepted it."""

from __future__ import annotations

import logging
from typing import Protocol

from core import redis_keys
from core.clock import Clock
from core.metrics.counters import Counters, Report
from core.oracle.client import OracleUnavailable
from core.oracle.registration import Registration
from core.oracle.reports import Outcome, Sender

STEPS = 10  # reports of one account in one go: a zero, a count, and what is over the Oracle's largest figure

log = logging.getLogger(__name__)

MEANING = {
    Outcome.NOT_REGISTERED: "it is no registered agent, or the Oracle can't reach the chain",
    Outcome.UNTRUSTED: "the Oracle's clock and ours are more than 60 s apart, or the signature or key is wrong",
    Outcome.REPLAYED: "somebody else reports for it, or had a clock that was ahead",
    Outcome.REFUSED: "the Oracle could not book it",
}


class Wallets(Protocol):
    """For whom is reported."""

    async def to_report(self) -> list[tuple[str, str]]:
        """Account and lower-case wallet of each. Raises StoreUnavailable."""
        ...


class OwnWallet:
    """All that was served is the gateway's own."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def to_report(self) -> list[tuple[str, str]]:
        """See Wallets."""
        return [(redis_keys.OWN, self._address)]


class MetricsReporter:
    """
    Tells the Oracle the accounts' totals; to be run by one process of the fleet, though two would do no harm.

    A report that failed, or whose answer was lost, is made good by the next one: it has a later timestamp and tells
    the same or more.
    """

    def __init__(
        self,
        counters: Counters,
        wallets: Wallets,
        sender: Sender,
        clock: Clock,
        registration: Registration | None = None,
    ) -> None:
        self._counters = counters
        self._wallets = wallets
        self._sender = sender
        self._clock = clock
        self._registration = registration
        self._problems: dict[str, Outcome | str] = {}  # what hinders the reports of a wallet, as the log has it

    async def report(self) -> None:
        """Tells all that is new. Raises StoreUnavailable; what hinders a report stands in the log."""
        for account, wallet in await self._wallets.to_report():
            for _ in range(STEPS):
                report = await self._counters.begin(account, wallet, self._clock.now())
                if report is None or not await self._accepted(account, report):
                    break

    async def _accepted(self, account: str, report: Report) -> bool:
        try:
            outcome = await self._sender.send(report)
        except OracleUnavailable as problem:
            self._note(report.wallet, str(problem), f"the Oracle is away: {problem}")
            return False
        if outcome is Outcome.ACCEPTED:
            await self._counters.done(account, report)
            if self._problems.pop(report.wallet, None) is not None:
                log.info("reports for %s are accepted again", report.wallet)
            return True
        self._note(report.wallet, outcome, MEANING[outcome])
        if outcome is Outcome.NOT_REGISTERED and self._registration is not None:
            await self._registration.request()
        return False

    def _note(self, wallet: str, problem: Outcome | str, meaning: str) -> None:
        if self._problems.get(wallet) != problem:
            log.warning("the report for %s is not accepted and is repeated: %s", wallet, meaning)
        self._problems[wallet] = problem
