"""Claims on idempotency keys that could not be given up when it was time, since Redis was away."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

from core.ending import end
from core.errors import StoreUnavailable
from core.store import Store

MOST = 10_000
PAUSE_S = 0.5


class LateReleases:
    """
    Gives them up as soon as Redis is back, so that a client who was told to try again can.

    They wait in this process; the oldest of more than `MOST`, and those of a process that ends, end by themselves.
    """

    def __init__(self, store: Store, *, pause_s: float = PAUSE_S) -> None:
        self._store = store
        self._pause_s = pause_s
        self._waiting: deque[tuple[str, Sequence[str]]] = deque(maxlen=MOST)
        self._trying: asyncio.Task[None] | None = None

    def add(self, key: str, args: Sequence[str]) -> None:
        """Takes over one call of the release script; does not wait."""
        self._waiting.append((key, args))
        if self._trying is None or self._trying.done():
            self._trying = asyncio.create_task(self._try_again())

    async def aclose(self) -> None:
        """Gives up trying."""
        if self._trying is not None:
            await end([self._trying])

    async def _try_again(self) -> None:
        while self._waiting:
            key, args = self._waiting.popleft()
            try:
                await self._store.run("idempotency_release", [key], args)
            except StoreUnavailable:
                self._waiting.append((key, args))
                await asyncio.sleep(self._pause_s)
