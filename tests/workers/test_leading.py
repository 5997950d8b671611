"""The lead: one process at a time, and nothing written by one that has lost it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

from core import redis_keys
from core.clock import SystemClock
from core.ending import end
from core.errors import StoreUnavailable
from core.lease import Lease, NotLeading, leader
from core.store import Store, open_store
from tests.fakes.clock import FakeClock
from tests.fakes.redis_server import RedisServer
from workers.leading import lead
from workers.periodic import Lasting, Periodic


class Work:
    """Counts its turns."""

    def __init__(self) -> None:
        self.turns = 0

    async def __call__(self) -> None:
        self.turns += 1

    async def begun(self) -> None:
        """Waits for the first turn."""
        async with asyncio.timeout(5):
            while not self.turns:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def leading(lease: Lease, work: Work) -> AsyncIterator[asyncio.Task[None]]:
    """A process that leads, and does some work over and over."""
    task = asyncio.create_task(lead(lease, [Periodic("work", work, 0.01)]))
    await work.begun()
    yield task
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.asyncio
class TestLease:
    async def test_one_process_has_it_at_a_time(self, store: Store, clock: FakeClock) -> None:
        a, b = Lease(store, "a", clock), Lease(store, "b", clock)

        assert [await a.take(), await b.take()] == [True, False]
        assert (a.is_held, b.is_held, await leader(store)) == (True, False, "a")

    async def test_of_another_thing_is_another_lease(self, store: Store, clock: FakeClock) -> None:
        fleet = Lease(store, "a", clock)
        keys = (redis_keys.SETTLEMENT_LEADER, redis_keys.SETTLEMENT_FENCE)
        settling, late = (Lease(store, name, clock, keys=keys) for name in "bc")

        assert [await fleet.take(), await settling.take(), await late.take()] == [True, True, False]
        await settling.release()
        assert [await late.take(), late.fence, await leader(store)] == [True, 2, "a"]

    async def test_each_lead_has_a_higher_number(self, store: Store, clock: FakeClock) -> None:
        fences = []
        for name in "aba":
            lease = Lease(store, name, clock)
            assert await lease.take()
            fences.append(lease.fence)
            await lease.release()

        assert fences == [1, 2, 3]
        assert await leader(store) is None

    async def test_a_holder_that_could_not_renew_stops_before_its_time_is_up(
        self, store: Store, clock: FakeClock
    ) -> None:
        lease = Lease(store, "a", clock, ttl_s=10)
        await lease.take()
        clock.advance(7.9)
        assert lease.fence == 1
        clock.advance(0.1)

        assert not lease.is_held
        with pytest.raises(NotLeading):
            _ = lease.fence

    async def test_who_asks_again_since_the_reply_was_lost_gets_it(self, store: Store, clock: FakeClock) -> None:
        await Lease(store, "a", clock).take()
        again = Lease(store, "a", clock)

        assert await again.take()
        assert again.fence == 2

    async def test_it_ends_by_itself_when_its_holder_is_gone(self, store: Store, clock: FakeClock) -> None:
        await Lease(store, "a", clock, ttl_s=0.05).take()
        other = Lease(store, "b", clock)
        async with asyncio.timeout(5):
            while not await other.take():
                await asyncio.sleep(0.01)

        assert other.fence == 2

    async def test_it_lasts_while_it_is_renewed(self, store: Store) -> None:
        lease, other = Lease(store, "a", SystemClock(), ttl_s=1), Lease(store, "b", SystemClock(), ttl_s=1)
        await lease.take()
        holding = asyncio.create_task(lease.hold())
        for _ in range(30):
            await asyncio.sleep(0.05)
            assert not await other.take()
        holding.cancel()

        assert lease.fence == 1

    async def test_one_that_another_process_has_taken_is_lost_at_the_next_renewal(self, store: Store) -> None:
        lease = Lease(store, "a", SystemClock(), ttl_s=0.6)
        await lease.take()
        await store.set(redis_keys.LEADER, "b", 60)
        async with asyncio.timeout(5):
            await lease.hold()

        assert not lease.is_held
        await lease.release()
        assert await leader(store) == "b"


@pytest.mark.asyncio
class TestLeading:
    async def test_the_jobs_run_only_where_the_lead_is(self, store: Store) -> None:
        here, there = Work(), Work()
        async with leading(Lease(store, "a", SystemClock()), here):
            await lead(Lease(store, "b", SystemClock()), [Periodic("work", there, 0.01)])

        assert there.turns == 0

    async def test_a_process_that_ends_well_hands_the_lead_on_at_once(self, store: Store) -> None:
        async with leading(Lease(store, "a", SystemClock()), Work()):
            assert await leader(store) == "a"

        async with leading(Lease(store, "b", SystemClock()), Work()):
            assert await leader(store) == "b"

    async def test_the_jobs_end_when_the_lead_is_lost(self, store: Store) -> None:
        work = Work()
        async with leading(Lease(store, "a", SystemClock(), ttl_s=0.6), work) as task:
            await store.set(redis_keys.LEADER, "b", 60)
            async with asyncio.timeout(5):
                await task
            turns = work.turns
            await asyncio.sleep(0.05)

        assert work.turns == turns
        assert await leader(store) == "b"

    async def test_the_jobs_end_when_redis_stays_away(self, redis_server: RedisServer, redis_url: str) -> None:
        async with (
            open_store(redis_url, timeout_s=0.2) as store,
            leading(Lease(store, "a", SystemClock(), ttl_s=0.6), Work()) as task,
        ):
            redis_server.stop()
            try:
                async with asyncio.timeout(5):
                    await task
            finally:
                redis_server.start()

    async def test_that_it_can_be_asked_for_again_is_told_once_it_is_had(
        self, store: Store, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        work = Work()
        asking = partial(lead, LateLease(store, "a", SystemClock()), [Periodic("work", work, 0.01)])
        task = asyncio.create_task(Lasting("asking for the lead", asking, 0.01).run())
        await work.begun()
        told = [record.getMessage() for record in caplog.records]
        await end([task])

        assert told == [
            f"asking for the lead fails and is tried again: {StoreUnavailable()!r}",
            "asking for the lead works again",
            "process a leads, as number 1",
        ]


class LateLease(Lease):
    """Redis is away the first time."""

    was_asked = False

    async def take(self) -> bool:
        if not self.was_asked:
            self.was_asked = True
            raise StoreUnavailable
        return await super().take()
