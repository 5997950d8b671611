"""The bookkeeping of one granted request: it ends counted, or handed back, and only once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from core.access.grant import Grant
from core.billing.ledger import KeptAnswer, Ledger
from core.errors import StoreUnavailable
from core.inference.completion import Usage
from core.nodes.node import Node

log = logging.getLogger(__name__)


class Tally:
    """
    Tells the ledger how a request ended.

    A Redis that is away by then is logged, not raised: the answer is already there. The ledger counts it later, and
    a request that was never settled is handed back by the reaper when its lease ends.
    """

    def __init__(self, ledger: Ledger, grant: Grant) -> None:
        self._ledger = ledger
        self._grant = grant
        self._delivery: asyncio.Task[None] | None = None
        self._time = asyncio.get_running_loop().time
        self._since = self._time()

    def delivered(self) -> None:
        """The first text is about to leave: from here on the request can't be handed back. Does not wait."""
        self._delivery = asyncio.ensure_future(self._tell(self._ledger.delivered(self._grant)))

    async def commit(self, usage: Usage, node: Node, answer: KeptAnswer | None = None) -> None:
        """Counts the answer, which has taken from this tally's beginning until now, and keeps it."""
        latency_ms = round((self._time() - self._since) * 1000)
        await self._settle(self._ledger.commit(self._grant, usage, node, latency_ms, answer))

    async def keep(self) -> None:
        """The caller left before the first text; the nodes have worked, so the request stays counted."""
        await self._settle(self._ledger.delivered(self._grant))

    async def hand_back(self) -> None:
        """Nothing left and it was not the caller's doing: the request does not count."""
        await self._settle(self._ledger.hand_back(self._grant))

    async def _settle(self, act: Awaitable[None]) -> None:
        # A client who leaves in this very moment cancels the one who waits, not the count.
        await asyncio.shield(self._in_order(act))

    async def _in_order(self, act: Awaitable[None]) -> None:
        if self._delivery is not None:
            await self._delivery
        await self._tell(act)

    async def _tell(self, act: Awaitable[None]) -> None:
        try:
            await act
        except StoreUnavailable:
            log.warning("%s: the store was away when it was settled", self._grant.request_id)
