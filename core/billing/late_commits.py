"""Answers that could not be counted when they ended, since Redis was away."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence

from core.ending import end
from core.errors import StoreUnavailable
from core.store import Store

MOST = 10_000
PAUSE_S = 1.0

log = logging.getLogger(__name__)


class LateCommits:
    """
    Counts them as soon as Redis is back; a commit that had run although its reply was lost counts once.

    They wait in this process: what waits when it is killed, or is more than `MOST`, is not counted.
    """

    def __init__(self, store: Store, *, pause_s: float = PAUSE_S) -> None:
        self._store = store
        self._pause_s = pause_s
        self._waiting: deque[tuple[Sequence[str], Sequence[str | int]]] = deque()
        self._trying: asyncio.Task[None] | None = None

    def add(self, keys: Sequence[str], args: Sequence[str | int]) -> None:
        """Takes over one call of the commit script; does not wait."""
        if len(self._waiting) >= MOST:
            log.error("an answer is not counted: too many wait for the store")
            return
        self._waiting.append((keys, args))
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try_again())

    async def aclose(self) -> None:
        """One last try."""
        if self._trying is not None:
            await end([self._trying])
        try:
            await self._count()
        except StoreUnavailable:
            log.error("%d answers are not counted: the store is away", len(self._waiting))  # noqa: TRY400 - no trace

    async def _try_again(self) -> None:
        while self._waiting:
            await asyncio.sleep(self._pause_s)
            try:
                await self._count()
            except StoreUnavailable:
                continue

    async def _count(self) -> None:
        while self._waiting:
            await self._store.run("commit", *self._waiting[0])
            self._waiting.popleft()
