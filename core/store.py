"""The shared Redis: the one place that knows the client, its limits, and what happens when Redis is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from core.errors import StoreUnavailable

SCRIPTS = Path(__file__).parent / "lua"
TIMEOUT_S = 0.75  # connecting and waiting in line included: the client is to be told 503 within a second
CONNECTIONS = 16  # a command takes a fraction of a millisecond; more of them only make a burst connect for longer


class Store:
    """
    Redis as the services use it: a few plain commands, and the Lua scripts of core/lua by name.

    Every method raises StoreUnavailable when Redis is away, hangs, or refuses (out of memory, read-only): the
    caller fails closed. Nothing is retried here, since a command whose reply was lost may have run.
    """

    def __init__(self, client: Redis, timeout_s: float) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._scripts = {
            file.stem: client.register_script(file.read_text("utf-8")) for file in sorted(SCRIPTS.glob("*.lua"))
        }

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Runs core/lua/<script>.lua atomically; its reply's strings come as str."""
        async with self._answered():
            return await self._scripts[script](keys=keys, args=args)

    async def get(self, key: str) -> str | None:
        """The string at a key."""
        async with self._answered():
            return cast("str | None", await self._client.get(key))

    async def set(self, key: str, value: str, ttl_s: int) -> None:
        """Writes a string that lives for `ttl_s` seconds."""
        async with self._answered():
            await self._client.set(key, value, ex=ttl_s)

    async def exists(self, key: str) -> bool:
        """Whether the key is there."""
        async with self._answered():
            return bool(await self._client.exists(key))

    async def hash(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when there is none."""
        async with self._answered():
            return cast("dict[str, str]", await self._client.hgetall(key))

    async def ping(self) -> None:
        """Asks for a sign of life."""
        async with self._answered():
            await self._client.ping()

    @asynccontextmanager
    async def _answered(self) -> AsyncIterator[None]:
        """Redis answers in time, or StoreUnavailable is raised."""
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except (RedisError, OSError, TimeoutError) as problem:
            raise StoreUnavailable from problem


@asynccontextmanager
async def open_store(redis_url: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Store]:
    """Opens the pool and closes it at the end; it does not wait for Redis to be there."""
    pool = BlockingConnectionPool.from_url(
        redis_url,
        max_connections=CONNECTIONS,
        timeout=timeout_s,
        socket_timeout=timeout_s,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    client = Redis(connection_pool=pool)
    try:
        yield Store(client, timeout_s)
    finally:
        await client.aclose()
        await pool.aclose()
