"""What the workers' own requests tell of the nodes: reports, the sum of them, and who is left out because of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import pytest_asyncio

from core import redis_keys
from core.bus import Bus, open_bus
from core.clock import Clock, SystemClock
from core.lease import Lease, NotLeading
from core.nodes import snapshot, traffic
from core.nodes.ejection import Ejection, Standing
from core.nodes.fleet import FIGURES_S, Fleet
from core.nodes.fleet_traffic import ANSWERING_S, FORGET_S, SILENT_S, FleetTraffic
from core.nodes.flights import Flights
from core.nodes.node import Node
from core.nodes.registry import NodeRegistry
from core.nodes.snapshot import Snapshot
from core.nodes.traffic import Tally, Traffic, TrafficReport
from core.nodes.traffic_sender import TrafficSender
from core.store import Store
from tests.fakes.clock import FakeClock

URL, OTHER = "http://a", "http://b"
A, B = (Node(url, models={"m": "M"}, online=True) for url in (URL, OTHER))

NO_NEWS = traffic.encode(TrafficReport("nobody", []))


async def until(true: Callable[[], bool]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


async def all_listen(bus: Bus, purpose: str, count: int) -> None:
    """Waits until so many processes hear a topic: a bus that was just opened may not be connected yet."""
    async with asyncio.timeout(10):
        while await bus.publish(redis_keys.to_all(purpose), NO_NEWS) < count:
            await asyncio.sleep(0.005)


def told(worker: str, **figures: float) -> TrafficReport:
    """A worker's report on one node."""
    return TrafficReport(worker, [Tally(URL, **figures)])  # type: ignore[arg-type] # figures are whole or not


class TestFlights:
    def test_an_answer_counts_with_its_tokens_and_times(self, clock: FakeClock) -> None:
        flights = Flights(clock)
        flight = flights.begin(URL)
        clock.advance(0.5)
        flight.moved(1)
        clock.advance(1.5)
        flight.moved(3)
        flight.answered(tokens=40)

        assert flights.tallies() == [
            Tally(URL, answers=1, tokens=40, duration_s=2.0, streams=1, first_token_s=0.5, moves=4)
        ]

    def test_what_was_told_is_not_told_again_but_for_what_is_under_way(self, clock: FakeClock) -> None:
        flights = Flights(clock)
        flight, failing = flights.begin(URL), flights.begin(URL)
        failing.failed()

        assert flights.tallies() == [Tally(URL, in_flight=1, failures=1, row=1)]
        assert flights.tallies() == [Tally(URL, in_flight=1)]
        flight.left()
        assert flights.tallies() == []

    def test_failures_in_a_row_begin_anew_after_an_answer(self, clock: FakeClock) -> None:
        flights = Flights(clock)
        for fails in (True, True, False, True):
            flight = flights.begin(URL)
            if fails:
                flight.failed()
            else:
                flight.answered(1)

        assert flights.tallies() == [Tally(URL, answers=1, failures=3, row=1, tokens=1)]

    def test_a_flight_ends_once(self, clock: FakeClock) -> None:
        flights = Flights(clock)
        flight = flights.begin(URL)
        flight.answered(1)
        flight.failed()
        flight.left()
        flight.moved(1)

        assert flights.tallies() == [Tally(URL, answers=1, tokens=1)]

    def test_an_absurd_figure_of_a_node_can_be_sent(self, clock: FakeClock) -> None:
        flights = Flights(clock)
        flights.begin(URL).answered(10**30)

        assert traffic.decode(traffic.encode(TrafficReport("w", flights.tallies()))) is not None


class TestFleetTraffic:
    def test_failures_of_all_workers_count_together(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection(after=5, base_s=30))
        changed = []
        for worker in "wxyzw":
            fleet.hear(told(worker, failures=1, row=1))
            changed.append(fleet.changed)

        assert changed == [False, False, False, False, True]
        assert fleet.summary()[URL].standing == Standing(5, 1, clock.now() + 30)

    def test_an_answer_anywhere_takes_the_node_back(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection(after=1, base_s=30))
        fleet.hear(told("w", failures=1, row=1))
        fleet.changed = False
        fleet.hear(told("x", answers=1))

        assert fleet.changed
        assert fleet.summary()[URL].standing == Standing()

    def test_an_answer_before_the_failures_of_one_report_comes_first(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection(after=3, base_s=30))
        fleet.hear(told("w", failures=2, row=2))
        fleet.hear(told("w", failures=9, answers=1, row=2))

        assert fleet.summary()[URL].standing.failures == 2
        assert not fleet.changed

    def test_requests_in_flight_are_those_of_all_workers_that_live(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection())
        fleet.hear(told("w", in_flight=2))
        fleet.hear(told("x", in_flight=3))
        assert fleet.summary()[URL].in_flight == 5
        fleet.hear(told("w", in_flight=1))
        assert fleet.summary()[URL].in_flight == 4
        clock.advance(SILENT_S / 2)
        fleet.hear(TrafficReport("w", []))
        clock.advance(SILENT_S / 2)

        assert fleet.summary()[URL].in_flight == 0

    def test_averages_begin_with_the_first_figure_and_follow_slowly(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection())
        fleet.hear(told("w", answers=2, tokens=100, duration_s=2.0, streams=2, first_token_s=1.0))
        first = fleet.summary()[URL]
        fleet.hear(told("x", answers=1, tokens=100, duration_s=1.0, streams=1, first_token_s=1.0))
        second = fleet.summary()[URL]

        assert (first.tokens_per_s, first.first_token_ms, first.last_answer) == (50, 500, clock.now())
        assert (second.tokens_per_s, second.first_token_ms) == (60, 600)

    def test_a_node_that_sends_text_is_at_work_until_it_fails_or_falls_silent(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection())
        assert not fleet.is_answering(URL)
        fleet.hear(told("w", in_flight=1, moves=3))
        assert fleet.is_answering(URL)
        clock.advance(ANSWERING_S - 0.1)
        assert fleet.is_answering(URL)
        clock.advance(0.1)
        assert not fleet.is_answering(URL)
        fleet.hear(told("w", moves=1, failures=1, row=1))

        assert not fleet.is_answering(URL)

    def test_nodes_that_nobody_asks_any_more_are_forgotten(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection())
        fleet.hear(told("w", answers=1))
        clock.advance(FORGET_S + 1)

        assert fleet.summary() == {}

    def test_a_new_leader_keeps_what_it_has_heard_and_takes_over_the_rest(self, clock: FakeClock) -> None:
        fleet = FleetTraffic(clock, Ejection(after=5))
        fleet.hear(told("w", failures=2, row=2))
        former = Traffic(tokens_per_s=7, standing=Standing(4, 1, 9))
        fleet.restore({URL: former, OTHER: former})

        assert fleet.summary()[URL].standing.failures == 2
        assert fleet.summary()[OTHER] == former

    @pytest.mark.parametrize("message", [b"", b"\x91", b"{}", b"\xff" * 9, b"\x92\xa1w\x91\x91\x01"])
    def test_a_report_that_can_not_be_read_is_none(self, message: bytes) -> None:
        assert traffic.decode(message) is None


@asynccontextmanager
async def leader(store: Store, bus: Bus, clock: Clock, name: str = "leader") -> AsyncIterator[Fleet]:
    """A process that leads and knows two nodes."""
    lease = Lease(store, name, clock, ttl_s=3600)
    assert await lease.take()
    fleet = Fleet(store, bus, lease, clock, FleetTraffic(clock, Ejection()))
    await fleet.start()
    await fleet.recall()
    fleet.keep([URL, OTHER])
    fleet.put(A)
    fleet.put(B)
    await fleet.share()
    yield fleet
    await lease.release()


@pytest_asyncio.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    """The leader's bus."""
    async with open_bus(redis_url) as opened:
        yield opened


class Worker:
    """What a web worker has of all this, with the leader's changes known by word alone: it polls once an hour."""

    def __init__(self, store: Store, bus: Bus, name: str) -> None:
        self.registry = NodeRegistry(store, SystemClock(), Ejection(), poll_s=3600)
        self.sender = TrafficSender(self.registry.flights, bus, name)
        self.bus = bus

    async def start(self) -> None:
        await self.registry.start(self.bus)

    def fail(self, node: Node) -> None:
        """A request to the node fails."""
        self.registry.begin(node).failed()
        self.registry.failed(node)

    def succeed(self, node: Node) -> None:
        """A request to the node is served."""
        self.registry.begin(node).answered(5)
        self.registry.succeeded(node)

    def uses(self, *nodes: Node) -> bool:
        """Whether requests may go to just these nodes."""
        return self.registry.available("m") == list(nodes)


@asynccontextmanager
async def workers(store: Store, redis_url: str, count: int) -> AsyncIterator[list[Worker]]:
    """Some workers, each with connections of its own."""
    async with AsyncExitStack() as stack:
        some = [Worker(store, await stack.enter_async_context(open_bus(redis_url)), f"w{n}") for n in range(count)]
        for worker in some:
            await worker.start()
            stack.push_async_callback(worker.registry.stop)
        await all_listen(some[0].bus, traffic.PURPOSE, 1)
        await all_listen(some[0].bus, snapshot.PURPOSE, count)
        yield some


@pytest.mark.asyncio
class TestFleet:
    async def test_failures_that_are_spread_over_the_workers_put_a_node_out_everywhere_once(
        self, store: Store, redis_url: str, bus: Bus, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with leader(store, bus, SystemClock()) as fleet, workers(store, redis_url, 4) as some:
            for worker in [*some, some[0]]:
                worker.fail(A)
                worker.sender.send()
            await until(lambda: fleet.traffic.changed)
            await fleet.share_changes()
            await until(lambda: all(worker.uses(B) for worker in some))

        assert [record.getMessage() for record in caplog.records] == [
            f"node {URL} fails its requests and is left out for a while"
        ]
        assert fleet.traffic.summary()[URL].standing.ejections == 1

    async def test_an_answer_of_one_worker_takes_it_back_everywhere(
        self, store: Store, redis_url: str, bus: Bus
    ) -> None:
        async with leader(store, bus, SystemClock()) as fleet, workers(store, redis_url, 2) as (one, two):
            for _ in range(5):
                one.fail(A)
            assert one.uses(B)  # its own failures count at once
            assert two.uses(A, B)
            one.sender.send()
            await until(lambda: fleet.traffic.changed)
            await fleet.share_changes()
            await until(lambda: two.uses(B))
            two.succeed(A)
            assert two.uses(A, B)
            two.sender.send()
            await until(lambda: fleet.traffic.changed)
            await fleet.share_changes()

            await until(lambda: one.uses(A, B))

    async def test_the_last_nodes_of_a_model_are_used_whatever_they_did(
        self, store: Store, redis_url: str, bus: Bus
    ) -> None:
        async with leader(store, bus, SystemClock()) as fleet, workers(store, redis_url, 2) as (one, two):
            for node in (A, B):
                for _ in range(5):
                    one.fail(node)
            one.sender.send()
            await until(lambda: fleet.traffic.changed)
            await fleet.share_changes()
            await until(lambda: two.registry.traffic(B).standing.ejections == 1)

            assert two.uses(A, B)

    async def test_a_node_that_goes_offline_is_known_by_word(self, store: Store, redis_url: str, bus: Bus) -> None:
        async with leader(store, bus, SystemClock()) as fleet, workers(store, redis_url, 2) as some:
            fleet.put(Node(URL, models={"m": "M"}))
            await fleet.share_changes()

            await until(lambda: all(worker.uses(B) for worker in some))

    async def test_figures_alone_are_shared_less_often(self, store: Store, bus: Bus, clock: FakeClock) -> None:
        async with leader(store, bus, clock) as fleet:
            before = await snapshot.version(store)
            fleet.traffic.hear(told("w", answers=1))
            await fleet.share_changes()
            assert await snapshot.version(store) == before
            clock.advance(FIGURES_S)
            await fleet.share_changes()

        assert await snapshot.version(store) != before

    async def test_nothing_is_shared_when_nothing_was_heard(self, store: Store, bus: Bus, clock: FakeClock) -> None:
        async with leader(store, bus, clock) as fleet:
            before = await snapshot.version(store)
            clock.advance(FIGURES_S * 2)
            await fleet.share_changes()

        assert await snapshot.version(store) == before

    async def test_a_snapshot_of_a_former_leader_is_refused(self, store: Store, bus: Bus) -> None:
        async with leader(store, bus, SystemClock(), "old") as old:
            await store.run("lease_release", [redis_keys.LEADER], ["old"])
            async with leader(store, bus, SystemClock(), "new"):
                assert old.lease.is_held  # it can't know yet
                old.put(Node(URL))
                with pytest.raises(NotLeading):
                    await old.share()
            shared = await snapshot.read(store)

        assert shared is not None
        assert shared.nodes == [A, B]

    async def test_a_process_that_does_not_lead_shares_nothing(self, store: Store, bus: Bus) -> None:
        clock = SystemClock()
        fleet = Fleet(store, bus, Lease(store, "w", clock), clock, FleetTraffic(clock, Ejection()))
        fleet.put(A)

        with pytest.raises(NotLeading):
            await fleet.share_changes()
        assert await snapshot.read(store) is None


@pytest.mark.asyncio
class TestSnapshot:
    async def test_it_is_read_again_only_when_there_is_a_new_one(self, store: Store) -> None:
        registry = NodeRegistry(store, SystemClock(), Ejection())
        await snapshot.write(store, Snapshot([A]), fence=1)
        await registry.refresh()
        await store.set(redis_keys.NODES, "[]", 60)  # would be told as unreadable
        await registry.refresh()
        assert registry.nodes() == [A]
        await snapshot.write(store, Snapshot([A, B]), fence=1)
        await registry.refresh()

        assert registry.nodes() == [A, B]

    async def test_two_of_them_never_have_the_same_version(self, store: Store) -> None:
        versions = [await snapshot.write(store, Snapshot([A]), fence=1) for _ in range(50)]

        assert len(set(versions)) == 50
