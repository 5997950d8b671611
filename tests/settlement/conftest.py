"""A settler's surroundings, new for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.fakes.chain import TestChain
from tests.settlement.bench import Bench, open_bench


@pytest_asyncio.fixture
async def bench(chain: TestChain, redis_url: str) -> AsyncIterator[Bench]:
    """Everything is well, and nothing was ever settled."""
    async with open_bench(chain, redis_url) as opened:
        yield opened
