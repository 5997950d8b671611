"""A reporter over a real Redis and a test Oracle in the same process, with faults between them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from typing import Any, cast

from core import redis_keys
from core.metrics.counters import MOST_TOKENS, Counters
from core.metrics.reporter import MetricsReporter, OwnWallet
from core.oracle.client import OracleAnswer, OracleClient, OracleUnavailable
from core.oracle.registration import Registration
from core.oracle.reports import SignedReports
from core.store import Store
from core.wallet import Signer
from tests.fakes.clock import FakeClock
from tests.fakes.oracle_metrics import MetricsLedger

KEY = "0x" + "ab" * 32
SIGNER = Signer(KEY)


class Killed(BaseException):
    """The process ends here: nothing handles it."""


class Lead:
    """A lead with a number."""

    def __init__(self, fence: int = 1) -> None:
        self.fence = fence


class Wire:
    """The Oracle's client over no network; `before` and `after` the Oracle got a message, things may happen."""

    def __init__(self, ledger: MetricsLedger) -> None:
        self.ledger = ledger
        self.away = False
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    async def post(self, path: str, body: dict[str, Any], headers: Mapping[str, str] | None = None) -> OracleAnswer:
        self.before()
        if self.away:
            raise OracleUnavailable("no connection")
        data = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        status, answer = self.ledger.post(path, data, headers)
        self.after()
        return OracleAnswer(status, answer)

    async def get(self, path: str, **query: str) -> Any:
        if self.away:
            raise OracleUnavailable("no connection")
        return self.ledger.metrics_of(path.rpartition("/")[2])

    @property
    def client(self) -> OracleClient:
        """As the services take it."""
        return cast("OracleClient", self)


def oracle_for(clock: FakeClock) -> MetricsLedger:
    """One that knows the reporter's wallet and the time."""
    return MetricsLedger("k", {SIGNER.address}, clock.now)


def reporter(
    store: Store, wire: Wire, clock: FakeClock, *, fence: int = 1, most: int = MOST_TOKENS, endpoint: str | None = None
) -> MetricsReporter:
    """A new process' reporter of the own wallet."""
    return MetricsReporter(
        Counters(store, Lead(fence), most=most),
        OwnWallet(SIGNER.address),
        SignedReports(wire.client, SIGNER, clock),
        clock,
        Registration(wire.client, SIGNER, endpoint, clock),
    )


async def serve(store: Store, tokens: int, account: str = redis_keys.OWN, latency_ms: int = 100) -> None:
    """Counts one answer, as the ledger does."""
    keys = [
        redis_keys.usage(secrets.token_hex(8)),
        redis_keys.OPEN_REQUESTS,
        redis_keys.ACCOUNTS,
        redis_keys.TOTALS,
        redis_keys.node_totals("http://node"),
        redis_keys.account(account),
    ]
    await store.run("commit", keys, ("nobody nothing", 60, account, 1, tokens, latency_ms))
