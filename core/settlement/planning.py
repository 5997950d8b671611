"""Who is settled next, and for how much."""

from __future__ import annotations

import logging

from core.chain.account import Head
from core.chain.amounts import affordable
from core.settlement.desk import Desk, Now
from core.settlement.fees import Fees, first
from core.settlement.journal import JournalMoved, View
from core.settlement.payload import DEBIT_GAS, debit
from core.settlement.permission import Permission

NO_GAS = "stopped: no money for gas"
DEBTORS_S = 15.0  # how often a user whose deposit could not pay is looked at again

log = logging.getLogger(__name__)


class Planner:
    """Methods raise StoreUnavailable and ChainUnavailable."""

    def __init__(self, desk: Desk, permission: Permission) -> None:
        self._desk = desk
        self._permission = permission
        self._paused: dict[str, float] = {}  # user → monotonic seconds

    async def plan(self, view: View, now: Now, is_open: int, due: list[tuple[str, int]]) -> str | None:
        """Sends transactions for users who are due, as many as may be open; what stands against it, or None."""
        self._paused = {user: until for user, until in self._paused.items() if until > self._desk.clock.monotonic()}
        users = [(user, owed) for user, owed in due if user not in self._paused]
        nonce, last = view.next or 0, (view.next or 0) + self._desk.rules.in_flight - is_open
        if not users and not is_open:
            return None
        fees = first(now.head.base_fee, self._desk.rules.max_fee)
        try:
            await self._check_gas(now.head, fees, is_open)
            price = (await self._desk.contract.terms()).cost_per_1000_tokens
            for user, owed in users:
                if nonce >= last:
                    break
                most = await self._affordable(user, owed, price)
                if most is not None and await self._settle(view.epoch, nonce, user, most, fees):
                    nonce += 1
        except JournalMoved:
            pass
        except _Stopped as stopped:
            return stopped.why
        return None

    async def _check_gas(self, head: Head, fees: Fees, is_open: int) -> None:
        if fees.max_fee < head.base_fee + fees.tip:
            raise _Stopped("stopped: the chain asks for more than SETTLEMENT_MAX_FEE_GWEI")
        if await self._desk.account.money() < (is_open + 1) * DEBIT_GAS * fees.max_fee:
            raise _Stopped(NO_GAS)

    async def _affordable(self, user: str, owed: int, price: int) -> int | None:
        """Tokens that his deposit pays; None to leave him alone. A refusal is found here, before it costs gas."""
        most = affordable((await self._desk.contract.credit(user)).balance, price)
        if (tokens := min(owed, most)) <= 0:
            return 0
        data = debit(self._desk.contract.address, user, tokens, 0).data
        objection = await self._desk.contract.objection(self._desk.account.address, data, DEBIT_GAS)
        if objection is None:
            return most
        if (refusal := self._permission.refuse(objection)) is not None:
            raise _Stopped(refusal)
        if "insufficient balance" in objection:  # he withdrew just now
            return 0
        log.warning("the contract does not let %s be debited: %s", user, objection)
        self._pause(user)
        return None

    async def _settle(self, epoch: str, nonce: int, user: str, most: int, fees: Fees) -> bool:
        """Whether the nonce is used now. Raises JournalMoved."""
        self._desk.at("before_plan")
        tx = await self._desk.journal.plan(epoch, nonce, user, most, self._desk.rules.in_flight)
        if tx is None:
            self._pause(user)
            return False
        self._desk.at("planned")
        await self._desk.sender.attempt(tx, self._desk.contract.address, fees, self._desk.at)
        return True

    def _pause(self, user: str) -> None:
        self._paused[user] = self._desk.clock.monotonic() + DEBTORS_S


class _Stopped(Exception):
    """Nobody can be settled now."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
