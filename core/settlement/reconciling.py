"""Whether the ledger and the chain agree, user by user, on what was settled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass

from core.chain.debits import Debits
from core.settlement.accounts import Account
from core.settlement.desk import Desk
from core.settlement.journal import View

LOOKS = 3  # what differs once may only have changed between two readings, or an endpoint was a block behind

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Tokens of one user that differ."""

    user: str
    settled: int  # by the ledger
    debited: int  # by the chain


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many users were compared, and who of them differs."""

    users: int
    differing: list[Mismatch]


class NoJournal(Exception):
    """There is nothing to compare."""

    def __init__(self) -> None:
        super().__init__("the settler's journal is being made anew")


class Reconciler:
    """Methods raise StoreUnavailable, ChainUnavailable and ForeignLedger."""

    def __init__(self, desk: Desk, debits: Debits) -> None:
        self._desk = desk
        self._debits = debits

    async def reconcile(self, head: int = 0) -> Comparison:
        """
        Compares all users; those who differ are frozen, and all others are not. Raises NoJournal.

        `head` is a block that there is for certain: what is settled was settled by it, and an older one does not know.
        """
        head = await self._newest(head)
        first = seen = await self._look(None, head)
        for _ in range(LOOKS - 1):
            if seen.differing:
                await asyncio.sleep(self._desk.rules.block_s)
                head = await self._newest(head)
                seen = await self._look([mismatch.user for mismatch in seen.differing], head)
        await self._desk.accounts.freeze([mismatch.user for mismatch in seen.differing])
        for each in seen.differing:
            log.error("%s: the ledger has %s tokens settled, the chain %s", each.user, each.settled, each.debited)
        return Comparison(first.users, seen.differing)

    async def look_again(self, frozen: Collection[str], head: int) -> None:
        """Lets those go who do not differ any more. Raises NoJournal."""
        seen = await self._look(frozen, await self._newest(head))
        differing = {mismatch.user for mismatch in seen.differing}
        await self._desk.accounts.thaw([user for user in frozen if user not in differing])

    async def _newest(self, head: int) -> int:
        return max(head, (await self._desk.account.head()).number)

    async def _look(self, among: Collection[str] | None, head: int) -> Comparison:
        before = await self._journal()
        block = max(0, head - self._desk.rules.confirmations)
        debited = await self._debits.totals(block)
        accounts = await self._desk.accounts.all()
        if (await self._journal()).epoch != before.epoch:
            raise NoJournal
        users = sorted(debited.keys() | accounts.keys() if among is None else among)
        mismatches = (_mismatch(user, accounts.get(user, Account(0, 0, 0)), debited.get(user, 0)) for user in users)
        differing = [mismatch for mismatch in mismatches if mismatch is not None]
        await self._debits.confirm([mismatch.user for mismatch in differing])
        return Comparison(len(users), differing)

    async def _journal(self) -> View:
        view = await self._desk.journal.look()
        if view.next is None:
            raise NoJournal
        return view


def _mismatch(user: str, account: Account, debited: int) -> Mismatch | None:
    """What is in flight may stand already, and not be noted yet."""
    settled = account.debited
    return None if debited in (settled, settled + account.inflight) else Mismatch(user, settled, debited)
