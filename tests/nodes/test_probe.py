"""The probes, and the list of nodes that they share with all processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio

import conf
from core import redis_keys
from core.bus import open_bus
from core.catalog import Catalog
from core.clock import SystemClock
from core.errors import StoreUnavailable
from core.lease import Lease
from core.nodes import snapshot
from core.nodes.address_guard import AddressGuard
from core.nodes.ejection import Ejection
from core.nodes.fleet import Fleet
from core.nodes.fleet_traffic import FleetTraffic
from core.nodes.node import Node, NodeKind
from core.nodes.probe import NodeProber
from core.nodes.registry import NodeRegistry
from core.nodes.snapshot import Snapshot
from core.nodes.sources import Listing, StaticNodes
from core.nodes.traffic import Tally, TrafficReport
from core.store import Store, open_store
from core.worker_id import new_worker_id
from tests.fakes.clock import FakeClock
from tests.fakes.node_server import ADDRESS, Fault, NodeServer
from tests.fakes.redis_server import RedisServer
from tests.nodes.network import MODEL
from tests.nodes.raw_server import CLOSE, raw_server

CATALOG = Catalog.from_file(Path(conf.__file__).parent / "models.toml")


@asynccontextmanager
async def leader(store: Store, redis_url: str) -> AsyncIterator[Fleet]:
    """A process that leads."""
    clock = SystemClock()
    async with open_bus(redis_url) as bus:
        lease = Lease(store, new_worker_id(), clock)
        assert await lease.take()
        fleet = Fleet(store, bus, lease, clock, FleetTraffic(clock, Ejection()))
        yield fleet
        await lease.release()


@pytest_asyncio.fixture
async def fleet(store: Store, redis_url: str) -> AsyncIterator[Fleet]:
    async with leader(store, redis_url) as opened:
        yield opened


def prober(fleet: Fleet, *urls: str, secret: str | None = None, timeout_s: float = 5) -> NodeProber:
    static = StaticNodes(urls)
    guard = AddressGuard(static.urls)
    return NodeProber([static], CATALOG, fleet, SystemClock(), guard=guard, secret=secret, timeout_s=timeout_s)


async def shared(store: Store) -> list[Node]:
    """The list as every process reads it."""
    read = await snapshot.read(store)
    assert read is not None
    return read.nodes


async def write(store: Store, *nodes: Node) -> None:
    """Shares these nodes, as any leader."""
    await snapshot.write(store, Snapshot(list(nodes)), fence=99)


async def probed(fleet: Fleet, node: NodeServer) -> Node:
    """A node after one round."""
    await prober(fleet, node.url).probe_all()
    found = fleet.node(node.url)
    assert found is not None
    return found


@pytest.mark.asyncio
class TestRecognition:
    @pytest.mark.parametrize(
        ("script", "kind", "streams"),
        [
            ({"kind": "petals"}, NodeKind.PETALS, False),
            ({"kind": "agent"}, NodeKind.AGENT, True),
            ({"kind": "agent", "mode": "single"}, NodeKind.AGENT, False),
            ({"kind": "openai"}, NodeKind.OPENAI, True),
        ],
    )
    async def test_a_kind_is_told_from_its_answers(
        self, store: Store, fleet: Fleet, script: dict[str, str], kind: NodeKind, streams: bool
    ) -> None:
        async with NodeServer(**script) as server:  # type: ignore[arg-type] # a script's values differ in type
            node = await probed(fleet, server)

        assert (node.online, node.kind, node.streams) == (True, kind, streams)
        assert node.models == {MODEL: MODEL}
        assert node.address == (ADDRESS.lower() if kind is NodeKind.AGENT else "")
        assert node.latency_ms > 0

    @pytest.mark.parametrize(
        "address", ["", "0x", "0x" + "1" * 41, "0x" + "1" * 100_000, ADDRESS + "\n", "evil\x1b[31m"]
    )
    async def test_a_name_that_is_no_wallet_is_not_kept(self, store: Store, fleet: Fleet, address: str) -> None:
        health = {"status": "ok", "mode": "pipeline", "model": MODEL, "address": address}
        async with NodeServer(kind="agent", health=health) as server:
            node = await probed(fleet, server)

        assert (node.online, node.address) == (True, "")

    async def test_a_model_is_known_by_any_letter_case_and_keeps_the_nodes_spelling(
        self, store: Store, fleet: Fleet
    ) -> None:
        async with NodeServer(kind="agent", model="BigScience/BLOOM-560m") as server:
            node = await probed(fleet, server)

        assert node.models == {MODEL: "BigScience/BLOOM-560m"}

    async def test_a_ready_node_without_a_model_serves_all_as_it_did_with_the_former_service(
        self, store: Store, fleet: Fleet
    ) -> None:
        async with NodeServer(kind="petals", health={"status": "ok"}) as server:
            node = await probed(fleet, server)

        assert (node.online, node.kind) == (True, NodeKind.PETALS)
        assert set(node.models) == {model.id for model in CATALOG}

    @pytest.mark.parametrize("health", [b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"404"])
    async def test_a_server_with_no_health_page_is_asked_for_its_models(
        self, store: Store, fleet: Fleet, health: bytes
    ) -> None:
        missing = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
        listed = b'{"data": [{"id": "x"}, {"id": "%s"}]}' % MODEL.encode()
        models = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(listed), listed)
        async with raw_server([missing if health == b"404" else health, CLOSE], [models, CLOSE]) as server:
            await prober(fleet, server.url).probe_all()
        (node,) = await shared(store)

        assert (node.online, node.kind, node.models) == (True, NodeKind.OPENAI, {MODEL: MODEL})

    async def test_nodes_that_want_a_secret_get_it(self, store: Store, fleet: Fleet) -> None:
        async with NodeServer(kind="openai", secret="s3cret") as server:
            await prober(fleet, server.url).probe_all()
            assert not (await shared(store))[0].online
            await prober(fleet, server.url, secret="s3cret").probe_all()

        assert (await shared(store))[0].online


@pytest.mark.asyncio
class TestProblems:
    @pytest.mark.parametrize(
        ("script", "problem"),
        [
            ({"fault": Fault.STATUS_LOADING}, "it is loading"),
            ({"kind": "agent", "fault": Fault.STATUS_LOADING}, "it is loading"),
            ({"kind": "openai", "fault": Fault.STATUS_LOADING}, "/health answered 503"),
            ({"fault": Fault.ERROR}, "/health answered 500"),
            ({"fault": Fault.REFUSE}, "no connection"),
            ({"model": "stranger/model"}, "it serves no model of the catalogue"),
            ({"kind": "openai", "model": "stranger/model"}, "it serves no model of the catalogue"),
            ({"health": {"model": MODEL}}, "it is not ready"),
            ({"health": {"status": "ok", "model": 7}}, "its answer is not of its protocol"),
            ({"health": {"status": "ok", "model": "x" * 300_000}}, "its answer is too large"),
            (
                {"health": {"status": "ok", "model": MODEL, "mode": "pipeline", "layers": {"start": 16, "end": 32}}},
                "it serves a later part of the model only",
            ),
        ],
    )
    async def test_a_node_that_can_not_serve_is_offline_and_says_why(
        self, store: Store, fleet: Fleet, script: dict[str, object], problem: str
    ) -> None:
        async with NodeServer(**script) as server:  # type: ignore[arg-type] # a script's values differ in type
            node = await probed(fleet, server)

        assert (node.online, node.problem) == (False, problem)

    @pytest.mark.parametrize(
        ("script", "secret", "problem"),
        [
            ({"fault": Fault.REFUSE}, None, "no connection"),
            ({"model": "stranger/model"}, None, "it serves no model of the catalogue"),
            ({"kind": "openai", "secret": "s3cret"}, "wr0ng", "/v1/models answered 401"),
        ],
    )
    async def test_one_that_was_never_online_is_told_once(
        self,
        fleet: Fleet,
        caplog: pytest.LogCaptureFixture,
        script: dict[str, object],
        secret: str | None,
        problem: str,
    ) -> None:
        caplog.set_level(logging.INFO, "core.nodes.probe")
        async with NodeServer(**script) as server:  # type: ignore[arg-type] # a script's values differ in type
            probes = prober(fleet, server.url, secret=secret)
            for _ in range(3):
                await probes.probe_all()

        assert [record.getMessage() for record in caplog.records] == [f"node {server.url} is offline: {problem}"]

    async def test_of_one_that_is_online_the_log_tells_its_ups_and_downs(
        self, fleet: Fleet, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, "core.nodes.probe")
        async with NodeServer() as server:
            probes = prober(fleet, server.url)
            for fault in (None, None, Fault.STATUS_LOADING, Fault.STATUS_LOADING, None, None):
                server.fault = fault
                await probes.probe_all()

        assert [record.getMessage().partition(" is ")[2] for record in caplog.records] == [
            "online", "offline: it is loading", "online",
        ]  # fmt: skip

    @pytest.mark.parametrize("answer", [b"SSH-2.0\r\n", b"HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:1/\r\n\r\n"])
    async def test_what_is_no_node_is_offline(self, store: Store, fleet: Fleet, answer: bytes) -> None:
        async with raw_server([answer, CLOSE]) as server:
            await prober(fleet, server.url).probe_all()

        assert not (await shared(store))[0].online

    async def test_a_slow_node_holds_nobody_up(self, store: Store, fleet: Fleet) -> None:
        async with NodeServer() as good, NodeServer(fault=Fault.HEALTH_STALL) as slow:
            async with asyncio.timeout(1):
                await prober(fleet, slow.url, good.url, timeout_s=0.2).probe_all()
            nodes = await shared(store)

        assert [(node.online, node.problem) for node in nodes] == [(False, "it did not answer in time"), (True, "")]


@pytest.mark.asyncio
class TestBusyNodes:
    async def test_a_node_that_sends_us_text_may_leave_probes_unanswered(self, fleet: Fleet) -> None:
        async with NodeServer(kind="agent") as server:
            probes = prober(fleet, server.url, timeout_s=0.1)
            await probes.probe_all()
            server.fault = Fault.HEALTH_STALL
            for _ in range(4):
                fleet.traffic.hear(TrafficReport("w", [Tally(server.url, in_flight=1, moves=1)]))
                await probes.probe_all()
            busy = fleet.node(server.url)
            fleet.traffic.hear(TrafficReport("w", [Tally(server.url, failures=1, row=1)]))
            for _ in range(3):
                await probes.probe_all()
            silent = fleet.node(server.url)

        assert busy is not None
        assert silent is not None
        assert (busy.online, busy.failures) == (True, 0)
        assert not silent.online

    async def test_one_that_says_itself_that_it_can_not_serve_is_believed(self, fleet: Fleet) -> None:
        async with NodeServer(kind="agent") as server:
            await prober(fleet, server.url).probe_all()
            server.fault = Fault.STATUS_LOADING
            fleet.traffic.hear(TrafficReport("w", [Tally(server.url, in_flight=1, moves=1)]))

            assert not (await probed(fleet, server)).online


@pytest.mark.asyncio
class TestNewNodes:
    async def test_one_that_has_just_come_need_not_wait_for_the_next_round(self, store: Store, fleet: Fleet) -> None:
        urls: list[str] = []

        class Growing:
            async def listed(self) -> list[Listing]:
                return [Listing(url) for url in urls]

        async with NodeServer() as one, NodeServer() as two:
            guard = AddressGuard([one.url, two.url])
            probes = NodeProber([Growing()], CATALOG, fleet, SystemClock(), guard=guard)
            urls.append(one.url)
            await probes.probe_all()
            urls.append(two.url)
            for _ in range(2):
                await probes.probe_new()
            await fleet.share_changes()
            assert [(node.online, node.problem) for node in await shared(store)] == [(True, "")] * 2
            assert [len(one.requests), len(two.requests)] == [1, 1]
            urls.remove(one.url)
            await probes.probe_new()
            await fleet.share_changes()

            assert [node.url for node in await shared(store)] == [two.url]

    async def test_what_its_source_tells_of_it_is_shared(self, store: Store, fleet: Fleet) -> None:
        class Named:
            async def listed(self) -> list[Listing]:
                return [Listing(server.url, "0x" + "ab" * 20, tokens_per_s=7.5)]

        async with NodeServer() as server:
            probes = NodeProber([Named()], CATALOG, fleet, SystemClock(), guard=AddressGuard([server.url]))
            await probes.probe_all()
            await fleet.share_changes()

            (node,) = await shared(store)
        assert (node.address, node.benchmark_tps) == ("0x" + "ab" * 20, 7.5)

    async def test_one_that_takes_its_time_is_asked_once(self, fleet: Fleet) -> None:
        async with NodeServer(fault=Fault.HEALTH_STALL) as server:
            probes = prober(fleet, server.url, timeout_s=0.2)
            await asyncio.gather(probes.probe_all(), probes.probe_new(), probes.probe_new())

            assert len(server.requests) == 1


@pytest.mark.asyncio
class TestHistory:
    async def test_a_good_node_survives_two_missed_probes_and_not_three(self, store: Store, fleet: Fleet) -> None:
        async with NodeServer() as server:
            probes = prober(fleet, server.url)
            await probes.probe_all()
            server.fault = Fault.ERROR
            states = []
            for _ in range(3):
                await probes.probe_all()
                states.append((await shared(store))[0].online)

        assert states == [True, True, False]

    async def test_it_outlives_the_process_that_probes(self, store: Store, redis_url: str, fleet: Fleet) -> None:
        async with NodeServer() as server:
            await prober(fleet, server.url).probe_all()
            server.fault = Fault.ERROR
            for _ in range(3):
                await prober(fleet, server.url).probe_all()
            server.fault = None
            states = []
            await fleet.lease.release()
            for _ in range(2):
                async with leader(store, redis_url) as next_fleet:
                    await prober(next_fleet, server.url).probe_all()
                states.append((await shared(store))[0].online)

        assert states == [False, True]

    async def test_nodes_that_nobody_lists_any_more_are_dropped(self, store: Store, fleet: Fleet) -> None:
        async with NodeServer() as one, NodeServer() as two:
            await prober(fleet, one.url, two.url).probe_all()
            await prober(fleet, two.url).probe_all()

            assert [node.url for node in await shared(store)] == [two.url]

    async def test_a_list_of_another_version_is_written_anew(self, store: Store, fleet: Fleet) -> None:
        await store.set(redis_keys.NODES, '{"version": 9}', 60)
        async with NodeServer() as server:
            assert (await probed(fleet, server)).online

    async def test_without_redis_the_round_is_told_as_failed(self, redis_server: RedisServer, fleet: Fleet) -> None:
        async with NodeServer() as server:
            probes = prober(fleet, server.url)
            await probes.probe_all()
            redis_server.stop()
            try:
                with pytest.raises(StoreUnavailable):
                    await probes.probe_all()
            finally:
                redis_server.start()


@pytest.mark.asyncio
class TestRegistry:
    async def test_it_answers_for_models_and_owners(self, store: Store) -> None:
        registry = NodeRegistry(store, FakeClock(), Ejection())
        on = Node("http://a", address="0xaa", models={"m": "M", "n": "N"}, online=True)
        off = Node("http://b", address="0xbb", models={"m": "M"})
        await write(store, off, on)
        await registry.refresh()

        assert registry.nodes() == [off, on]
        assert (registry.count("m"), registry.count("n"), registry.count("x")) == (1, 1, 0)
        assert registry.available("m") == [on]
        assert registry.available("m", {"http://a"}) == []
        assert registry.node_at("0xbb") == off
        assert registry.node_at("0xcc") is None

    async def test_an_owners_online_node_comes_first(self, store: Store) -> None:
        registry = NodeRegistry(store, FakeClock(), Ejection())
        gone, here = Node("http://a", address="0xaa"), Node("http://b", address="0xaa", online=True)
        await write(store, gone, here)
        await registry.refresh()

        assert registry.node_at("0xaa") == here

    async def test_ejected_nodes_come_back_after_their_time(self, store: Store, clock: FakeClock) -> None:
        registry = NodeRegistry(store, clock, Ejection(after=1, base_s=30))
        a, b = (Node(f"http://{name}", models={"m": "M"}, online=True) for name in "ab")
        await write(store, a, b)
        await registry.refresh()
        registry.failed(a)
        assert registry.available("m") == [b]
        assert registry.available("m", {b.url}) == [a]
        registry.failed(b)
        assert registry.available("m") == [a, b]
        clock.advance(30)
        registry.succeeded(b)

        assert registry.available("m") == [a, b]

    async def test_it_keeps_the_last_list_when_redis_goes_away(self, redis_server: RedisServer, redis_url: str) -> None:
        async with open_store(redis_url) as store, open_store("unix:///nowhere/redis.sock") as away:
            registry = NodeRegistry(store, FakeClock(), Ejection())
            await write(store, Node("http://a", models={"m": "M"}, online=True))
            await registry.refresh()
            redis_server.flush()
            await registry.refresh()
            assert registry.count("m") == 1
            registry._store = away
            await registry.refresh()

        assert registry.count("m") == 1

    async def test_a_list_that_can_not_be_read_changes_nothing(self, store: Store) -> None:
        registry = NodeRegistry(store, FakeClock(), Ejection())
        await write(store, Node("http://a", models={"m": "M"}, online=True))
        await registry.refresh()
        await store.set(redis_keys.NODES, "[{}]", 60)
        await store.set(redis_keys.NODES_VERSION, "another", 60)
        await registry.refresh()

        assert registry.count("m") == 1

    async def test_it_follows_the_list_by_itself_until_stopped(self, store: Store, redis_url: str) -> None:
        registry = NodeRegistry(store, FakeClock(), Ejection(), poll_s=0.01)
        async with open_bus(redis_url) as bus:
            await registry.start(bus)
            await write(store, Node("http://a", models={"m": "M"}, online=True))
            async with asyncio.timeout(5):
                while not registry.count("m"):
                    await asyncio.sleep(0.005)
            await registry.stop()

        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_it_tells_which_nodes_are_lost(self, store: Store) -> None:
        registry, lost = NodeRegistry(store, FakeClock(), Ejection()), list[str]()
        registry.when_lost(lambda node: lost.append(node.url))
        a, b, c = (Node(f"http://{name}", online=True) for name in "abc")
        for nodes in ([a, b, c], [a, Node("http://b")], [a]):
            await write(store, *nodes)
            await registry.refresh()

        assert lost == [b.url, c.url]
