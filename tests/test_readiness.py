"""Whether the gateway says that it is ready: also of a Redis that answers, and does not take what is to be kept."""

from __future__ import annotations

import pytest
import redis

from core.draining import Drain
from core.nodes import snapshot
from core.nodes.ejection import Ejection
from core.nodes.node import Node
from core.nodes.registry import NodeRegistry
from core.nodes.snapshot import Snapshot
from core.readiness import Readiness
from core.store import Store, open_store
from tests.fakes.clock import FakeClock
from tests.fakes.redis_server import RedisServer


async def said(store: Store) -> tuple[str, str]:
    """Status and `redis` of a gateway with one node that is online."""
    clock = FakeClock()
    nodes = NodeRegistry(store, clock, Ejection())
    await nodes.refresh()
    report = await Readiness(store, nodes, Drain(timeout_s=1), clock).report()
    assert report["nodes"] == 1
    return report["status"], report["redis"]


@pytest.mark.asyncio
class TestRedis:
    @pytest.mark.parametrize(
        ("command", "word"),
        [
            ("replicaof 127.0.0.1 1", "READONLY"),
            ("config set maxmemory 1", "OOM"),
            ("config set min-replicas-to-write 1", "NOREPLICAS"),
            ("acl setuser default -eval -evalsha", "NOPERM"),
        ],
    )
    async def test_that_refuses_writes_is_not_ready_and_tells_why(
        self, own_redis: RedisServer, command: str, word: str
    ) -> None:
        async with open_store(own_redis.url, timeout_s=10) as store:
            await snapshot.write(store, Snapshot([Node("http://a", online=True)]), fence=1)
            before = await said(store)
            with redis.Redis(unix_socket_path=str(own_redis.socket)) as raw:
                raw.execute_command(*command.split())
            after = await said(store)

        assert before == ("ready", "ok")
        assert after == ("unready", f"refuses writes: {word}")

    async def test_that_is_away_is_not_ready(self, store: Store) -> None:
        await snapshot.write(store, Snapshot([Node("http://a", online=True)]), fence=1)
        nodes = NodeRegistry(store, FakeClock(), Ejection())
        await nodes.refresh()
        async with open_store("unix:///nowhere/redis.sock") as away:
            report = await Readiness(away, nodes, Drain(timeout_s=1), FakeClock()).report()

        assert (report["status"], report["redis"], report["leader"]) == ("unready", "unavailable", None)
