"""The payment contract's past events, read block by block."""

from __future__ import annotations

from typing import Any

from core.chain.chain import Chain
from core.chain.payment_contract import USER_TOPICS
from core.chain.rpc import CallFailed
from core.errors import ChainUnavailable

# Log id (block hash, place in the block) → the lower-case address of the user.
Logs = dict[tuple[str, str], str]


class PaymentEvents:
    """Events of one contract that change a user's tier or balance."""

    def __init__(self, chain: Chain, address: str) -> None:
        self._chain = chain
        self._address = address

    async def newest_block(self) -> int:
        """The chain's head. Raises ChainUnavailable."""
        return await self._chain.block_number()

    async def between(self, first: int, last: int) -> Logs:
        """The events of these blocks, both included. Raises ChainUnavailable."""
        wanted = {"address": self._address, "topics": [USER_TOPICS], "fromBlock": hex(first), "toBlock": hex(last)}
        try:
            logs = await self._chain.request("eth_getLogs", wanted)
            return {(log["blockHash"], log["logIndex"]): user_of(log["topics"][1]) for log in logs}
        except (CallFailed, TypeError, KeyError, IndexError, ValueError):
            raise ChainUnavailable from None


def user_of(topic: Any) -> str:
    """The address in an indexed topic: the last 20 of its 32 bytes. Raises ValueError."""
    word = topic if isinstance(topic, bytes) else bytes.fromhex(str(topic).removeprefix("0x"))
    if len(word) != 32:
        raise ValueError
    return "0x" + word[12:].hex()
