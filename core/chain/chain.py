"""The chain as this process sees it: whether its endpoint answers, and whether it is the right chain at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any

from core.chain.rpc import CallFailed, RpcClient, RpcFailed, RpcRefused, open_rpc
from core.ending import end
from core.errors import ChainUnavailable

CHECK_S = 30.0  # an endpoint may change its chain behind our back
RETRY_S = 1.0

log = logging.getLogger(__name__)


class ChainState(StrEnum):
    """What /ready says of the chain."""

    OK = "ok"
    UNAVAILABLE = "unavailable"
    WRONG_CHAIN = "wrong chain id"
    OFF = "off"  # there is no payment contract, so nobody asks


class Chain:
    """
    Calls that fail at once while the endpoint is away: nobody waits for it but the check that finds it back.

    An endpoint of another chain counts as one that is away.
    """

    def __init__(self, rpc: RpcClient, chain_id: int) -> None:
        self._rpc = rpc
        self._chain_id = chain_id
        self._failed = asyncio.Event()
        self.state = ChainState.UNAVAILABLE
        self._noted: ChainState | None = None

    async def request(self, method: str, *params: Any) -> Any:
        """The result of a JSON-RPC method. Raises ChainUnavailable or CallFailed."""
        if self.state is not ChainState.OK:
            raise ChainUnavailable
        try:
            return await self._rpc.call(method, *params)
        except RpcFailed as problem:
            if not isinstance(problem, RpcRefused):  # else one bad call would keep all others from it
                self._note(ChainState.UNAVAILABLE, problem)
            self._failed.set()
            raise ChainUnavailable from None

    async def eth_call(self, call: dict[str, str], at: int | None = None) -> bytes:
        """What a call returns at a block, by default the newest. Raises ChainUnavailable or CallFailed."""
        result = await self.request("eth_call", call, "latest" if at is None else hex(at))
        try:
            return bytes.fromhex(result.removeprefix("0x"))
        except (AttributeError, ValueError):
            raise ChainUnavailable from None

    async def block_number(self) -> int:
        """The newest block. Raises ChainUnavailable."""
        return quantity(await self.request("eth_blockNumber"))

    async def check(self) -> None:
        """Asks for the chain's id and notes what comes of it."""
        try:
            chain_id = quantity(await self._rpc.call("eth_chainId"))
        except (RpcFailed, CallFailed, ChainUnavailable) as problem:
            self._note(ChainState.UNAVAILABLE, problem)
        else:
            right = chain_id == self._chain_id
            self._note(ChainState.OK if right else ChainState.WRONG_CHAIN, f"it has {chain_id}")

    async def watch(self) -> None:
        """Checks again and again, at once after a call failed, until it is cancelled."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(CHECK_S if self.state is ChainState.OK else RETRY_S):
                    await self._failed.wait()
            self._failed.clear()
            await self.check()

    def _note(self, state: ChainState, why: object) -> None:
        if state is self._noted:
            return
        if state is ChainState.OK:
            log.info("the chain's endpoint answers")
        elif state is ChainState.WRONG_CHAIN:
            log.error("CHAIN_RPC_URL is of another chain than CHAIN_ID %s: %s; it is not used", self._chain_id, why)
        else:
            log.warning("CHAIN_RPC_URL: the chain's endpoint is not available: %s", why)
        self.state = self._noted = state


@asynccontextmanager
async def open_chain(url: str, chain_id: int) -> AsyncIterator[Chain]:
    """The chain behind `url`, looked at once and watched from then on; it does not wait for it to be there."""
    async with open_rpc(url) as rpc:
        chain = Chain(rpc, chain_id)
        await chain.check()
        watching = asyncio.create_task(chain.watch())
        try:
            yield chain
        finally:
            await end([watching])


def quantity(value: Any) -> int:
    """A number as JSON-RPC writes it: 0x and hex digits. Raises ChainUnavailable."""
    try:
        return int(value, 16)
    except (TypeError, ValueError):
        raise ChainUnavailable from None
