"""Fixtures that many tests share: a real Redis, the store over it, a clock."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

import core.wallet  # noqa: F401 - it takes back what a library of the wallets' does to the recursion limit
from core.store import Store, open_store
from tests.fakes.chain import TestChain
from tests.fakes.clock import FakeClock
from tests.fakes.redis_server import RedisServer


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """One real redis-server for each test process. The path is short: a Unix socket's may have 108 bytes."""
    with tempfile.TemporaryDirectory(prefix="plm-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """The address of an empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """A server of one test's own, which it may stop, kill and change."""
    with tempfile.TemporaryDirectory(prefix="plm-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        yield server
        server.stop()


@pytest_asyncio.fixture
async def store(redis_url: str) -> AsyncIterator[Store]:
    """The store over an empty Redis; patient, since a test machine may be busy with other tests."""
    async with open_store(redis_url, timeout_s=10) as opened:
        yield opened


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture(scope="session")
def chain() -> Iterator[TestChain]:
    """One real chain for each test process, with the payment contract on it."""
    with TestChain() as running:
        yield running
