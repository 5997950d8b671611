"""The shared Redis as the services use it, and what happens when it is away."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

from core.errors import StoreUnavailable
from core.redis_link import Argument, LinkFailed, RedisLink, Refused

SCRIPTS = Path(__file__).parent / "lua"
QUIET_S = 60.0  # a refusal that was not met for so long is told again
TIMEOUT_S = 0.75  # connecting included: the client is to be told 503 within a second

log = logging.getLogger(__name__)


class Store:
    """
    A few plain commands, and the Lua scripts of core/lua by name.

    Every method raises StoreUnavailable when Redis is away, hangs, or refuses (out of memory, read-only): the
    caller fails closed. Nothing is retried here, since a command whose reply was lost may have run. The log tells each
    kind of refusal once.
    """

    def __init__(self, link: RedisLink) -> None:
        self._link = link
        self._refusals: dict[str, float] = {}  # kind → when it was met last, in monotonic seconds
        sources = {file.stem: file.read_text("utf-8") for file in sorted(SCRIPTS.glob("*.lua"))}
        self._scripts = {name: (hashlib.sha1(text.encode()).hexdigest(), text) for name, text in sources.items()}  # noqa: S324 - Redis' own name for a script

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Runs core/lua/<script>.lua atomically; its reply's strings come as str."""
        digest, text = self._scripts[script]
        try:
            return await self._link.call(("EVALSHA", digest, len(keys), *keys, *args))
        except LinkFailed as problem:
            raise StoreUnavailable from problem
        except Refused as refusal:
            if refusal.kind != "NOSCRIPT":
                raise self._refused(refusal) from refusal
        return await self._ask("EVAL", text, len(keys), *keys, *args)  # a Redis that was just started

    async def get(self, key: str) -> str | None:
        """The string at a key."""
        return cast("str | None", await self._ask("GET", key))

    async def set(self, key: str, value: str, ttl_s: int) -> None:
        """Writes a string that lives for `ttl_s` seconds."""
        await self._ask("SET", key, value, "EX", ttl_s)

    async def exists(self, key: str) -> bool:
        """Whether the key is there."""
        return bool(await self._ask("EXISTS", key))

    async def hash(self, key: str) -> dict[str, str]:
        """All fields of a hash; empty when there is none."""
        flat: list[str] = await self._ask("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def config(self, pattern: str) -> dict[str, str]:
        """Redis' settings of these names; none from one that keeps them to itself, as managed ones do."""
        try:
            flat: list[str] = await self._link.call(("CONFIG", "GET", pattern))
        except LinkFailed as problem:
            raise StoreUnavailable from problem
        except Refused:
            return {}
        return dict(zip(flat[::2], flat[1::2], strict=True))

    async def ping(self) -> None:
        """Asks for a sign of life."""
        await self._ask("PING")

    async def _ask(self, *command: Argument) -> Any:
        try:
            return await self._link.call(command)
        except LinkFailed as problem:
            raise StoreUnavailable from problem
        except Refused as refusal:
            raise self._refused(refusal) from refusal

    def _refused(self, refusal: Refused) -> StoreUnavailable:
        now, before = time.monotonic(), self._refusals.get(refusal.kind)
        if before is None or now - before > QUIET_S:
            log.warning("REDIS_URL: Redis refuses: %s", refusal)
        self._refusals[refusal.kind] = now
        return StoreUnavailable(refusal.kind)


@asynccontextmanager
async def open_store(redis_url: str, timeout_s: float = TIMEOUT_S) -> AsyncIterator[Store]:
    """The store behind a URL; it does not wait for Redis to be there."""
    link = RedisLink(redis_url, timeout_s)
    try:
        yield Store(link)
    finally:
        await link.aclose()
