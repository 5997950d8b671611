"""The bookkeeping of one granted request: it ends counted, or handed back, and only once."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import TypeVar

from core.access.grant import Grant
from core.billing.ledger import KeptAnswer, Ledger
from core.errors import StoreUnavailable
from core.inference.completion import Paid, Usage
from core.metrics.meter import Meter
from core.nodes.node import Node

CHECKPOINT_PIECES, CHECKPOINT_S = 64, 2.0  # the most that a killed worker's user gets for nothing

T = TypeVar("T")

log = logging.getLogger(__name__)


class Tally:
    """
    Tells the ledger how a request ended.

    A Redis that is away by then is logged, not raised: the answer is already there. The ledger counts it later, and
    a request that was never settled is handed back by the reaper when its lease ends.
    """

    __slots__ = ("_grant", "_ledger", "_not_noted", "_note", "_noted_at", "_since", "_time")

    def __init__(self, ledger: Ledger, grant: Grant) -> None:
        self._ledger = ledger
        self._grant = grant
        self._note: asyncio.Task[None] | None = None  # the word of what has left, on its way
        self._time = asyncio.get_running_loop().time
        self._since = self._noted_at = self._time()
        self._not_noted = 0  # pieces

    def delivered(self, meter: Meter, node: Node) -> None:
        """The first text is about to leave: from here on the request can't be handed back. Does not wait."""
        if self._grant.charge is None:
            self._note = asyncio.ensure_future(self._noted(self._ledger.delivered(self._grant)))
        else:
            self._checkpoint(meter, node)

    def passed(self, pieces: int, meter: Meter, node: Node) -> None:
        """More of a paid answer is about to leave: now and then the ledger is told how much. Does not wait."""
        self._not_noted += pieces
        due = self._not_noted >= CHECKPOINT_PIECES or self._time() >= self._noted_at + CHECKPOINT_S
        if due and self._note is None:
            self._checkpoint(meter, node)

    async def commit(self, usage: Usage, node: Node, answer: KeptAnswer | None = None) -> Paid | None:
        """
        Counts the answer, which has taken from this tally's beginning until now, and keeps it.

        What was paid for it; None when it was free, or can't be said now.
        """
        latency_ms = round((self._time() - self._since) * 1000)
        return await self._settle(self._ledger.commit(self._grant, usage, node, latency_ms, answer))

    async def keep(self) -> None:
        """The caller left before the first text: the nodes have worked, so it counts, but nothing is to be paid."""
        free = self._grant.charge is None
        await self._settle(self._ledger.delivered(self._grant) if free else self._ledger.hand_back(self._grant))

    async def hand_back(self) -> None:
        """Nothing left and it was not the caller's doing: the request does not count."""
        await self._settle(self._ledger.hand_back(self._grant))

    def _checkpoint(self, meter: Meter, node: Node) -> None:
        self._not_noted, self._noted_at = 0, self._time()
        self._note = asyncio.ensure_future(self._noted(self._ledger.checkpoint(self._grant, meter.usage(), node)))

    async def _noted(self, act: Awaitable[None]) -> None:
        try:
            await self._tell(act)
        finally:
            self._note = None  # a task that is done would be held until the answer ends

    async def _settle(self, act: Awaitable[T]) -> T | None:
        # A client who leaves in this very moment cancels the one who waits, not the count.
        return await asyncio.shield(self._in_order(act))

    async def _in_order(self, act: Awaitable[T]) -> T | None:
        if self._note is not None:
            await self._note
        return await self._tell(act)

    async def _tell(self, act: Awaitable[T]) -> T | None:
        try:
            return await act
        except StoreUnavailable:
            log.warning("%s: the store was away when it was settled", self._grant.request_id)
            return None
