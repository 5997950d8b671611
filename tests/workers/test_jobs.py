"""The jobs themselves."""

from __future__ import annotations

import pytest

from core import redis_keys
from core.store import Store
from tests.fakes.clock import FakeClock
from workers import heartbeat


@pytest.mark.asyncio
class TestHeartbeat:
    async def test_writes_the_time_in_whole_seconds(self, store: Store, clock: FakeClock) -> None:
        clock.advance(0.9)

        await heartbeat.beat(store, clock)

        assert await store.get(redis_keys.BACKGROUND) == "1800000000"
