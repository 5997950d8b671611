"""The store: what it does when Redis is there, and when it is not."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from core.durability import durability
from core.errors import StoreUnavailable
from core.store import Store, open_store
from tests.fakes.redis_server import RedisServer


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


@pytest.mark.asyncio
class TestRefusals:
    @pytest.mark.parametrize(
        ("command", "line"),
        [
            ("replicaof 127.0.0.1 1", "READONLY You can't write against a read only replica."),
            ("config set maxmemory 1", "OOM command not allowed when used memory > 'maxmemory'."),
            (
                "acl setuser default -set",
                "ERR ACL failure in script: User default has no permissions to run the 'set' command",
            ),
            ("acl setuser default -evalsha", "NOPERM User default has no permissions to run the 'evalsha' command"),
        ],
    )
    async def test_each_kind_is_told_once(self, caplog: pytest.LogCaptureFixture, command: str, line: str) -> None:
        async with redis_told(command) as store:
            for _ in range(3):
                with pytest.raises(StoreUnavailable) as refused:
                    await store.run("use_once", ["k"], [5])

        assert refused.value.refusal == line.partition(" ")[0]
        assert str(refused.value) == str(StoreUnavailable())  # clients hear no word of it
        assert [record.getMessage() for record in caplog.records] == [f"REDIS_URL: Redis refuses: {line}"]


@pytest.mark.asyncio
class TestDurability:
    @pytest.mark.parametrize(
        ("written", "fsync", "level"),
        [("yes", "always", "L3"), ("yes", "everysec", "L2"), ("yes", "no", "L1"), ("no", "always", "L1")],
    )
    async def test_is_what_redis_is_told_to_do(self, written: str, fsync: str, level: str) -> None:
        async with redis_told(f"config set appendonly {written}", f"config set appendfsync {fsync}") as store:
            assert await durability(store) == level

    async def test_of_a_redis_that_does_not_tell_is_not_known(self) -> None:
        async with redis_told("acl setuser default -config") as store:
            assert await durability(store) == "L1"


@asynccontextmanager
async def redis_told(*commands: str) -> AsyncIterator[Store]:
    """The store over a Redis of its own, after some commands."""
    with tempfile.TemporaryDirectory(prefix="plm-") as short:
        server = RedisServer(Path(short))
        server.start()
        with redis.Redis(unix_socket_path=str(server.socket)) as raw:
            for command in commands:
                raw.execute_command(*command.split())
        async with open_store(server.url, timeout_s=10) as store:
            yield store
        server.stop()
