"""What the payment contract ever debited: the CreditUsed events, which only the gateway can cause."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from core.chain.account import Account
from core.chain.chain import Chain
from core.chain.payment_contract import PaymentContract, event_topic
from core.chain.payment_events import user_of
from core.chain.rpc import AT_ONCE, CallFailed
from core.errors import ChainUnavailable

TOPIC = event_topic("CreditUsed")
MOST_BLOCKS = 10_000  # that are asked for at once; endpoints have limits of their own, which nobody can ask for

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Debit:
    """One CreditUsed event."""

    user: str  # lower-case address
    tokens: int
    cost: int  # wei


class Debits:
    """
    The sums of one contract's debits. What was read once, of blocks that stand, is remembered.

    The whole record is read at the first time, which may take minutes on a long chain. A reading that fails goes on
    from where it was, in smaller pieces.
    """

    def __init__(self, chain: Chain, account: Account, contract: str, most_blocks: int = MOST_BLOCKS) -> None:
        self._chain = chain
        self._account = account
        self._contract = PaymentContract(chain, contract)
        self._most_blocks = self._size = most_blocks
        self._block, self._hash = -1, ""
        self._totals: dict[str, int] = {}
        self._costs: dict[str, int] = {}  # wei
        self._confirmed: set[str] = set()  # users, at this block

    async def totals(self, block: int) -> dict[str, int]:
        """
        Tokens that each user was debited up to this block.

        The block must be one that the chain will not take back. Who counts on the sums asks `confirm` first. Raises
        ChainUnavailable, also when the chain changes meanwhile, or the endpoint lacks a block that was read already.
        """
        if block < self._block:
            raise ChainUnavailable
        if self._block >= 0 and (digest := await self._account.block_hash(self._block)) != self._hash:
            if digest is None:
                raise ChainUnavailable
            self._forget()
        while self._block < block:
            await self._advance(min(self._block + self._size, block))
        self._size = self._most_blocks
        return dict(self._totals)

    async def confirm(self, users: Sequence[str]) -> None:
        """
        Holds the sums of these users against what the contract itself counts, at the block that was read last.

        An endpoint is often several machines, and one that lacks the latest blocks leaves their events out without a
        word. Raises ChainUnavailable when a sum is another one: then everything is read anew. A call that fails raises
        it too; then it goes on from there, as long as the block is the same.
        """
        left = [user for user in users if user not in self._confirmed]
        for some in (left[start : start + AT_ONCE] for start in range(0, len(left), AT_ONCE)):
            counted = await asyncio.gather(*(self._contract.credit(user, self._block) for user in some))
            for user, credit in zip(some, counted, strict=True):
                if (cost := self._costs.get(user, 0)) != credit.used:
                    log.warning("the events debit %s of %s wei, the contract %s: read anew", user, cost, credit.used)
                    self._forget()
                    raise ChainUnavailable
            self._confirmed.update(some)

    def _forget(self) -> None:
        self._block, self._totals, self._costs, self._confirmed = -1, {}, {}, set()

    async def _advance(self, last: int) -> None:
        expected = await self._account.block_hash(last)
        try:
            debits = await self._ask(self._block + 1, last)
        except ChainUnavailable:
            self._size = max(1, self._size // 2)
            raise
        if expected is None or await self._account.block_hash(last) != expected:
            raise ChainUnavailable
        for debit in debits:
            self._totals[debit.user] = self._totals.get(debit.user, 0) + debit.tokens
            self._costs[debit.user] = self._costs.get(debit.user, 0) + debit.cost
        self._block, self._hash, self._confirmed = last, expected, set()

    async def _ask(self, first: int, last: int) -> list[Debit]:
        wanted = {"address": self._contract.address, "topics": [TOPIC], "fromBlock": hex(first), "toBlock": hex(last)}
        try:
            logs = await self._chain.request("eth_getLogs", wanted)
        except CallFailed:
            raise ChainUnavailable from None
        if not isinstance(logs, list):
            raise ChainUnavailable
        return [_debit(log) for log in logs]


def debit_in(logs: list[Any], contract: str, user: str) -> Debit | None:
    """The debit of a user among a receipt's logs. Raises ChainUnavailable."""
    ours = [log for log in logs if str(log.get("address", "")).lower() == contract and log["topics"][0] == TOPIC]
    return next((debit for debit in map(_debit, ours) if debit.user == user), None)


def _debit(log: Any) -> Debit:
    try:
        data = bytes.fromhex(log["data"].removeprefix("0x"))
        tokens, cost = int.from_bytes(data[:32]), int.from_bytes(data[32:64])
        return Debit(user_of(log["topics"][1]), tokens, cost)
    except (AttributeError, TypeError, KeyError, IndexError, ValueError):
        raise ChainUnavailable from None
