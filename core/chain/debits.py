"""What the payment contract ever debited: the CreditUsed events, which only the gateway can cause."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from core.chain.account import Account
from core.chain.chain import Chain
from core.chain.payment_contract import event_topic
from core.chain.payment_events import user_of
from core.chain.rpc import CallFailed
from core.errors import ChainUnavailable

TOPIC = event_topic("CreditUsed")
MOST_BLOCKS = 10_000  # that are asked for at once; endpoints have limits of their own, which nobody can ask for


@dataclass(frozen=True, slots=True)
class Debit:
    """One CreditUsed event."""

    user: str  # lower-case address
    tokens: int
    cost: int  # wei


class Debits:
    """
    The sums of one contract's debits. What was read once, of blocks that stand, is remembered.

    The whole record is read at the first time, which may take minutes on a long chain.
    """

    def __init__(self, chain: Chain, account: Account, contract: str, most_blocks: int = MOST_BLOCKS) -> None:
        self._chain = chain
        self._account = account
        self._contract = contract
        self._most_blocks = most_blocks
        self._block, self._hash = -1, ""
        self._totals: dict[str, int] = {}

    async def totals(self, block: int) -> dict[str, int]:
        """
        Tokens that each user was debited up to this block. Raises ChainUnavailable, also when the chain changes.

        The block must be one that the chain will not take back.
        """
        if self._block > block or (self._block >= 0 and await self._account.block_hash(self._block) != self._hash):
            self._block, self._totals = -1, {}
        expected = await self._account.block_hash(block)
        totals = dict(self._totals)
        async for debit in self._between(self._block + 1, block):
            totals[debit.user] = totals.get(debit.user, 0) + debit.tokens
        if expected is None or await self._account.block_hash(block) != expected:
            raise ChainUnavailable
        self._block, self._hash, self._totals = block, expected, totals
        return dict(totals)

    async def _between(self, first: int, last: int) -> AsyncIterator[Debit]:
        """All of them, in pieces that the endpoint takes."""
        size = self._most_blocks
        while first <= last:
            upto = min(first + size - 1, last)
            try:
                debits = await self._ask(first, upto)
            except ChainUnavailable:
                if size == 1:
                    raise
                size = max(1, size // 4)
            else:
                for debit in debits:
                    yield debit
                first, size = upto + 1, min(self._most_blocks, size * 2)

    async def _ask(self, first: int, last: int) -> list[Debit]:
        wanted = {"address": self._contract, "topics": [TOPIC], "fromBlock": hex(first), "toBlock": hex(last)}
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
