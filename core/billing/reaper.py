"""What becomes of requests whose worker was killed."""

from __future__ import annotations

from core import redis_keys
from core.store import Store

BATCH = 100  # requests a round trip: Redis serves nobody else meanwhile


class Reaper:
    """Hands back what is still open after its lease; any number of reapers may run at once."""

    def __init__(self, store: Store, batch: int = BATCH) -> None:
        self._store = store
        self._batch = batch

    async def reap(self) -> int:
        """How many requests were handed back. Raises StoreUnavailable; what was done by then stays done."""
        keys, args = (redis_keys.OPEN_REQUESTS,), (redis_keys.quota(""), self._batch)
        total = 0
        while True:
            reaped: int = await self._store.run("reap", keys, args)
            total += reaped
            if reaped < self._batch:
                return total
