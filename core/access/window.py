"""The window of Free requests as its owner may see it; the gate itself is core/access/rate_limit.py."""

from __future__ import annotations

from core import redis_keys
from core.access.grant import Quota
from core.store import Store


class QuotaWindow:
    """Looks, and counts nothing."""

    def __init__(self, store: Store, *, limit: int, window_s: int) -> None:
        self._store = store
        self._limit = limit
        self._window_s = window_s

    async def of(self, address: str) -> Quota:
        """
        What a lower-case address has used; its moments are 0 while nothing is. Raises StoreUnavailable.
        """
        used, reset_at_ms, now_ms = await self._store.run(
            "quota_look", [redis_keys.quota(address)], [self._window_s * 1000]
        )
        reset_after_s = -((now_ms - reset_at_ms) // 1000) if used else 0
        return Quota(self._limit, used, self._window_s, reset_at_ms, reset_after_s)
