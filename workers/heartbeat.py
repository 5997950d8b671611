"""The background worker's sign of life."""

from __future__ import annotations

from core import redis_keys
from core.clock import Clock
from core.store import Store

EVERY_S = 5
TTL_S = 60


async def beat(store: Store, clock: Clock) -> None:
    """Writes the time; when nobody does for a minute, the key is gone."""
    await store.set(redis_keys.BACKGROUND, str(int(clock.now())), TTL_S)
