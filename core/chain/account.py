"""An account of the gateway's own on the chain: its nonces, its money, and what became of its transactions."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from core.chain.chain import Chain, quantity
from core.chain.rpc import CallFailed
from core.errors import ChainUnavailable


@dataclass(frozen=True, slots=True)
class Head:
    """The chain's newest block."""

    number: int
    base_fee: int  # wei for one gas


@dataclass(frozen=True, slots=True)
class Receipt:
    """That a transaction is in a block."""

    block: int
    block_hash: str
    succeeded: bool
    logs: list[Any]  # as the endpoint tells them


class Account:
    """The account at a lower-case address. Every method but `send` raises ChainUnavailable."""

    def __init__(self, chain: Chain, address: str) -> None:
        self._chain = chain
        self.address = address

    async def head(self) -> Head:
        """The newest block."""
        block = await self._ask("eth_getBlockByNumber", "latest", False)  # noqa: FBT003 - JSON-RPC's own order
        if not isinstance(block, dict):
            raise ChainUnavailable
        return Head(quantity(block.get("number")), quantity(block.get("baseFeePerGas", "0x0")))

    async def count(self, at: int | str = "latest") -> int:
        """Its next nonce at a block, which is how many it had sent; at "pending", with those that wait to be mined."""
        return quantity(await self._ask("eth_getTransactionCount", self.address, _block(at)))

    async def money(self) -> int:
        """Its wei at the newest block."""
        return quantity(await self._ask("eth_getBalance", self.address, "latest"))

    async def receipt(self, transaction: str) -> Receipt | None:
        """The receipt of a transaction's hash; None as long as it is in no block."""
        said = await self._ask("eth_getTransactionReceipt", transaction)
        if said is None:
            return None
        try:
            succeeded = quantity(said["status"]) == 1
            return Receipt(quantity(said["blockNumber"]), str(said["blockHash"]), succeeded, list(said["logs"]))
        except (TypeError, KeyError):
            raise ChainUnavailable from None

    async def block_hash(self, number: int) -> str | None:
        """The hash of the block at this height; None when there is none."""
        block = await self._ask("eth_getBlockByNumber", hex(number), False)  # noqa: FBT003
        return str(block["hash"]) if isinstance(block, dict) and "hash" in block else None

    async def send(self, raw: str) -> None:
        """
        Sends a signed transaction, and tells nothing of how that went.

        Whatever the endpoint says, or does not say, the transaction may be on its way: only a receipt decides.
        """
        with suppress(ChainUnavailable, CallFailed):
            await self._chain.request("eth_sendRawTransaction", raw)

    async def _ask(self, method: str, *params: Any) -> Any:
        try:
            return await self._chain.request(method, *params)
        except CallFailed:
            raise ChainUnavailable from None


def _block(at: int | str) -> str:
    return at if isinstance(at, str) else hex(at)
