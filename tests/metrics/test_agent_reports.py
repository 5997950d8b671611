"""Reports in Redis and in each process' view: shared, stale after five minutes, bounded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio
import redis

from core import redis_keys
from core.bus import open_bus
from core.metrics.agent_reports import LIFE_S, AgentReports
from core.metrics.report_body import AgentReport, Performance
from core.store import open_store
from tests.access.gates import CATALOG
from tests.fakes.clock import FakeClock

ADA, BOB = "0x" + "A" * 40, "0x" + "b" * 40


def report(agent: str, *models: str, address: str = ADA, errors: int = 0) -> AgentReport:
    return AgentReport(agent, address, models, Performance(10, 1.5, errors), 1)


@pytest_asyncio.fixture
async def workers(redis_url: str, clock: FakeClock) -> AsyncIterator[list[AgentReports]]:
    """Two processes, which take the reports of three agents at most."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(2):
            store = await stack.enter_async_context(open_store(redis_url, timeout_s=10))
            bus = await stack.enter_async_context(open_bus(redis_url))
            reports = AgentReports(store, bus, CATALOG, clock, most=3)
            await reports.start()
            stack.push_async_callback(reports.stop)
            opened.append(reports)
            while not bus.is_heard:
                await asyncio.sleep(0.005)
        yield opened


async def agree(reports: AgentReports, model: str, count: int) -> None:
    """Waits until a process sees so many agents; within the second that is promised, on a machine that is not busy."""
    async with asyncio.timeout(10):
        while reports.count(model, ()) != count:
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
class TestReports:
    async def test_are_seen_by_every_process(self, workers: list[AgentReports]) -> None:
        one, two = workers
        await one.add(report("a", "small", "nope/x"))
        await two.add(report("b", "SMALL", "big"))

        for worker in workers:
            await agree(worker, "small", 2)
            await agree(worker, "big", 1)
            assert [kept.agent_id for kept in await worker.all()] == ["a", "b"]

    async def test_replace_the_agents_last_one(self, workers: list[AgentReports]) -> None:
        one, two = workers
        await one.add(report("a", "small"))
        await one.add(report("a"))

        await agree(two, "small", 0)
        assert one.count("small", ()) == 0
        assert [kept.models for kept in await two.all()] == [()]

    async def test_are_stale_after_five_minutes(self, workers: list[AgentReports], clock: FakeClock) -> None:
        one, two = workers
        await one.add(report("a", "small"))
        await agree(two, "small", 1)
        clock.advance(LIFE_S - 1)
        assert two.count("small", ()) == 1

        clock.advance(1)

        assert (one.count("small", ()), two.any_well("small"), await two.all()) == (0, False, [])

    async def test_of_more_agents_than_there_may_be_the_oldest_go(
        self, workers: list[AgentReports], clock: FakeClock, redis_url: str
    ) -> None:
        one, two = workers
        for number in range(5):
            clock.advance(1)
            await one.add(report(f"agent-{number}", "small"))

        await agree(two, "small", 3)
        assert [kept.agent_id for kept in await two.all()] == ["agent-2", "agent-3", "agent-4"]
        with redis.Redis.from_url(redis_url) as raw:
            assert raw.hlen(redis_keys.REPORTS) == raw.zcard(redis_keys.REPORTS_AT) == 3

    async def test_leave_redis_when_they_are_stale(
        self, workers: list[AgentReports], clock: FakeClock, redis_url: str
    ) -> None:
        await workers[0].add(report("a"))
        clock.advance(LIFE_S)
        await workers[0].add(report("b"))

        with redis.Redis.from_url(redis_url) as raw:
            assert raw.hkeys(redis_keys.REPORTS) == [b"b"]
            assert 0 < raw.ttl(redis_keys.REPORTS) <= LIFE_S

    async def test_of_nodes_that_are_counted_already_do_not_count(self, workers: list[AgentReports]) -> None:
        one, _ = workers
        await one.add(report("a", "small", address=ADA))
        await one.add(report("b", "small", address=BOB))

        assert one.count("small", [ADA.lower()]) == 1

    async def test_of_failing_agents_make_no_model_well(self, workers: list[AgentReports]) -> None:
        one, _ = workers
        await one.add(report("a", "small", errors=9))
        assert (one.count("small", ()), one.any_well("small")) == (1, False)

        await one.add(report("b", "small"))
        assert one.any_well("small")

    async def test_a_process_that_comes_later_knows_them(
        self, workers: list[AgentReports], redis_url: str, clock: FakeClock
    ) -> None:
        await workers[0].add(report("a", "small"))
        async with open_store(redis_url, timeout_s=10) as store, open_bus(redis_url) as bus:
            late = AgentReports(store, bus, CATALOG, clock)
            await late.start()
            await agree(late, "small", 1)
            await late.stop()
