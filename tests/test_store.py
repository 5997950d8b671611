"""The store: what it does when Redis is there, and when it is not."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from core.errors import StoreUnavailable
from core.store import Store, open_store


@pytest.mark.asyncio
class TestStore:
    async def test_reads_what_it_wrote(self, store: Store) -> None:
        await store.set("k", "값", ttl_s=5)

        assert await store.get("k") == "값"
        assert await store.exists("k")
        assert await store.get("other") is None

    async def test_a_redis_that_is_not_there_is_unavailable_within_a_second(self, tmp_path: Path) -> None:
        async with open_store(f"unix://{tmp_path}/none.sock") as store:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await store.ping()

        assert time.monotonic() - started < 1
