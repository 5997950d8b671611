"""Requests whose worker was killed: handed back once, by whichever reaper comes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
import redis

from core import redis_keys
from core.billing.ledger import Ledger, Totals
from core.billing.reaper import BATCH, Reaper
from core.catalog import Tier
from core.inference.completion import Usage
from core.nodes.node import Node
from core.store import Store, open_store
from tests.access.gates import ADA, ASKED, BOB, KILLED, LIMITS, Everyone, gate, used

NODE = Node("http://10.0.0.5:31331")
USAGE = Usage(prompt_tokens=8, completion_tokens=5, total_tokens=13)
MANY = replace(LIMITS, free_requests=1000)


@pytest.mark.asyncio
class TestReap:
    async def test_hands_a_killed_workers_request_back_once(self, store: Store) -> None:
        await gate(store).admit(ADA, ASKED)
        await gate(store, lease_s=KILLED).admit(ADA, ASKED)

        assert [await Reaper(store).reap(), await Reaper(store).reap()] == [1, 0]
        assert await used(store) == 1

    async def test_leaves_a_running_request_alone(self, store: Store) -> None:
        await gate(store).admit(ADA, ASKED)

        assert await Reaper(store).reap() == 0
        assert await used(store) == 1

    @pytest.mark.parametrize("end", ["delivered", "committed", "handed back"])
    async def test_leaves_alone_what_has_ended_or_begun_to_leave(self, store: Store, end: str) -> None:
        ledger, grant = Ledger(store), await gate(store, lease_s=KILLED).admit(ADA, ASKED)
        acts: dict[str, Callable[[], Awaitable[object]]] = {
            "delivered": lambda: ledger.delivered(grant),
            "committed": lambda: ledger.commit(grant, USAGE, NODE, 250),
            "handed back": lambda: ledger.hand_back(grant),
        }
        await acts[end]()

        assert await Reaper(store).reap() == 0
        assert await used(store) == (0 if end == "handed back" else 1)

    async def test_takes_all_however_many_in_bounded_batches(self, store: Store) -> None:
        killed = gate(store, limits=MANY, lease_s=KILLED)
        for _ in range(2 * BATCH + 1):
            await killed.admit(ADA, ASKED)
        await killed.admit(BOB, ASKED)

        assert await Reaper(store).reap() == 2 * BATCH + 2
        assert (await used(store, ADA), await used(store, BOB)) == (0, 0)

    async def test_a_full_last_batch_ends_as_well(self, store: Store) -> None:
        for _ in range(2):
            await gate(store, lease_s=KILLED).admit(ADA, ASKED)

        assert await Reaper(store, batch=1).reap() == 2

    async def test_reapers_at_once_hand_each_request_back_once(self, redis_url: str) -> None:
        async with open_store(redis_url, timeout_s=10) as one, open_store(redis_url, timeout_s=10) as two:
            killed = gate(one, limits=MANY, lease_s=KILLED)
            for _ in range(60):
                await killed.admit(ADA, ASKED)
            for _ in range(3):
                await gate(one, limits=MANY).admit(ADA, ASKED)

            counts = await asyncio.gather(*(Reaper(store, batch=7).reap() for store in (one, two) * 5))

            assert sum(counts) == 60
            assert await used(one) == 3

    async def test_an_open_pro_request_is_only_forgotten(self, store: Store) -> None:
        await gate(store, tiers=Everyone(Tier.PRO), lease_s=KILLED).admit(ADA, ASKED)

        assert await Reaper(store).reap() == 1
        assert await used(store) == 0

    async def test_an_entry_that_nobody_could_have_written_is_dropped(self, store: Store, redis_url: str) -> None:
        with redis.Redis.from_url(redis_url) as raw:
            raw.zadd(redis_keys.OPEN_REQUESTS, {"garbage": 0, "a b c": 0, "": 0})

        assert [await Reaper(store).reap(), await Reaper(store).reap()] == [3, 0]


@pytest.mark.asyncio
class TestLateWorker:
    async def test_an_answer_after_the_lease_is_still_counted_once(self, store: Store) -> None:
        ledger, grant = Ledger(store), await gate(store, lease_s=KILLED).admit(ADA, ASKED)
        await Reaper(store).reap()

        await ledger.delivered(grant)
        await ledger.commit(grant, USAGE, NODE, 250)
        await ledger.commit(grant, USAGE, NODE, 250)

        assert await ledger.totals() == Totals(answers=1, prompt_tokens=8, completion_tokens=5)
        assert await used(store) == 0

    async def test_a_late_hand_back_frees_no_second_slot(self, store: Store) -> None:
        await gate(store).admit(ADA, ASKED)
        grant = await gate(store, lease_s=KILLED).admit(ADA, ASKED)
        await Reaper(store).reap()

        await Ledger(store).hand_back(grant)

        assert await used(store) == 1
