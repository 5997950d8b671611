"""Nonces: how many, how long, and that each serves once."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from typing import cast

import pytest
import pytest_asyncio
from redis.asyncio import Redis

from core import redis_keys
from core.auth.nonces import LIFE_MS, MOST_OPEN, Nonce, Nonces
from core.errors import StoreUnavailable
from core.store import Store, open_store

ADDRESS = "0x" + "ab" * 20
ORIGIN = "http://localhost:3000"
KEY = redis_keys.nonces(ADDRESS)


@pytest_asyncio.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Redis without our store before it: what a test needs to turn time back."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def nonces(store: Store) -> Nonces:
    return Nonces(store)


async def states(redis: Redis) -> dict[str, str]:
    """All nonces of the address as they are kept."""
    return cast("dict[str, str]", await redis.hgetall(KEY))


async def times(redis: Redis, nonce: Nonce) -> tuple[int, int]:
    """When a nonce was issued and when it expires, as Redis has it."""
    issued, expires, _ = (await states(redis))[nonce.value].split("|")
    return int(issued), int(expires)


async def age(redis: Redis, ms: int) -> None:
    """Lets time pass for all nonces of the address."""
    for value, state in (await states(redis)).items():
        issued, expires, origin = state.split("|")
        await redis.hset(KEY, value, f"{int(issued) - ms}|{int(expires) - ms}|{origin}")


@pytest.mark.asyncio
class TestNonces:
    async def test_are_64_hex_digits_and_never_the_same(self, nonces: Nonces) -> None:
        issued = [await nonces.issue(ADDRESS, ORIGIN) for _ in range(MOST_OPEN)]

        assert len({nonce.value for nonce in issued}) == MOST_OPEN
        assert all(re.fullmatch("[0-9a-f]{64}", nonce.value) for nonce in issued)

    async def test_are_found_again_as_they_were_issued(self, nonces: Nonces) -> None:
        first = await nonces.issue(ADDRESS, ORIGIN)
        second = await nonces.issue(ADDRESS, "https://a.example|odd")

        assert sorted(await nonces.of(ADDRESS), key=str) == sorted([first, second], key=str)
        assert await nonces.of("0x" + "cd" * 20) == []

    async def test_live_for_five_minutes_of_redis_own_time(self, nonces: Nonces, redis: Redis) -> None:
        nonce = await nonces.issue(ADDRESS, ORIGIN)
        seconds, micros = await redis.time()
        issued, expires = await times(redis, nonce)

        assert expires - issued == LIFE_MS == 300_000
        assert 0 <= seconds * 1000 + micros // 1000 - issued < 5_000
        assert issued == nonce.issued_ms
        assert LIFE_MS - 5_000 < await redis.pttl(KEY) <= LIFE_MS

    async def test_vanish_by_themselves(self, store: Store) -> None:
        brief = Nonces(store, life_ms=30)
        nonce = await brief.issue(ADDRESS, ORIGIN)
        await asyncio.sleep(0.06)

        assert await brief.of(ADDRESS) == []
        assert not await brief.consume(ADDRESS, nonce)

    async def test_fail_closed_without_redis(self, tmp_path: object) -> None:
        async with open_store(f"unix://{tmp_path}/none.sock") as away:
            nonces = Nonces(away)
            with pytest.raises(StoreUnavailable):
                await nonces.issue(ADDRESS, ORIGIN)
            with pytest.raises(StoreUnavailable):
                await nonces.of(ADDRESS)
            with pytest.raises(StoreUnavailable):
                await nonces.consume(ADDRESS, Nonce("0" * 64, 0, ORIGIN))


@pytest.mark.asyncio
class TestConsume:
    async def test_works_once(self, nonces: Nonces) -> None:
        nonce, other = await nonces.issue(ADDRESS, ORIGIN), await nonces.issue(ADDRESS, ORIGIN)

        assert await nonces.consume(ADDRESS, nonce)
        assert not await nonces.consume(ADDRESS, nonce)
        assert await nonces.of(ADDRESS) == [other]

    async def test_of_a_thousand_at_once_works_once(self, nonces: Nonces) -> None:
        nonce = await nonces.issue(ADDRESS, ORIGIN)
        at_once = asyncio.Semaphore(60)

        async def attempt() -> bool:
            async with at_once:
                return await nonces.consume(ADDRESS, nonce)

        assert sum(await asyncio.gather(*(attempt() for _ in range(1000)))) == 1

    async def test_knows_the_nonce_of_its_own_address_only(self, nonces: Nonces) -> None:
        nonce = await nonces.issue(ADDRESS, ORIGIN)

        assert not await nonces.consume("0x" + "cd" * 20, nonce)
        assert await nonces.consume(ADDRESS, nonce)

    async def test_refuses_an_expired_one_that_is_still_there(self, nonces: Nonces, redis: Redis) -> None:
        nonce = await nonces.issue(ADDRESS, ORIGIN)
        await age(redis, LIFE_MS)

        assert await redis.hexists(KEY, nonce.value)
        assert not await nonces.consume(ADDRESS, nonce)

    async def test_takes_one_up_to_its_end(self, nonces: Nonces, redis: Redis) -> None:
        nonce = await nonces.issue(ADDRESS, ORIGIN)
        await age(redis, LIFE_MS - 10_000)

        assert await nonces.consume(ADDRESS, nonce)


@pytest.mark.asyncio
class TestAFlood:
    async def test_opens_five_and_then_hands_out_the_newest_again(self, nonces: Nonces, redis: Redis) -> None:
        first = []
        for _ in range(MOST_OPEN):
            await age(redis, 1_000)
            first.append(await nonces.issue(ADDRESS, ORIGIN))
        flood = [await nonces.issue(ADDRESS, "https://elsewhere.example") for _ in range(50)]

        assert set(flood) == {first[-1]}
        assert {nonce.value for nonce in await nonces.of(ADDRESS)} == {nonce.value for nonce in first}

    async def test_has_one_newest_even_within_a_millisecond(self, nonces: Nonces) -> None:
        long_origin = "https://" + "a" * 60 + ".example"  # makes Redis keep the hash without an order
        for _ in range(20):
            flood = await asyncio.gather(*(nonces.issue(ADDRESS, long_origin) for _ in range(MOST_OPEN)))
            newest = max(flood, key=lambda nonce: nonce.issued_ms)

            assert len({nonce.issued_ms for nonce in flood}) == MOST_OPEN
            assert await nonces.issue(ADDRESS, ORIGIN) == newest
            for nonce in flood:
                assert await nonces.consume(ADDRESS, nonce)

    async def test_renews_only_the_one_that_it_hands_out(self, nonces: Nonces, redis: Redis) -> None:
        first = []
        for _ in range(MOST_OPEN):
            await age(redis, 30_000)
            first.append(await nonces.issue(ADDRESS, ORIGIN))
        await age(redis, 30_000)
        before = [await times(redis, nonce) for nonce in first]
        await nonces.issue(ADDRESS, ORIGIN)
        after = [await times(redis, nonce) for nonce in first]

        assert after[:-1] == before[:-1]
        assert after[-1][0] == before[-1][0]
        assert 0 <= after[-1][1] - before[-1][1] - 30_000 < 5_000
        assert LIFE_MS - 5_000 < await redis.pttl(KEY) <= LIFE_MS

    async def test_ends_nobodys_nonce_early_and_stretches_none_beyond_ten_minutes(
        self, nonces: Nonces, redis: Redis
    ) -> None:
        # An hour in steps of 20 seconds. Every nonce is watched from its first to its last moment.
        created: dict[str, int] = {}
        step_ms, slack_ms = 20_000, 15_000
        for now in range(0, 3_600_000, step_ms):
            handed_out = {(await nonces.issue(ADDRESS, ORIGIN)).value for _ in range(8)}
            alive = {nonce.value for nonce in await nonces.of(ADDRESS)}
            for value in alive:
                created.setdefault(value, now)

            assert len(alive) <= MOST_OPEN
            assert {value for value, since in created.items() if now - since < LIFE_MS - slack_ms} <= alive
            assert all(now - created[value] < 2 * LIFE_MS for value in alive)
            for nonce in await nonces.of(ADDRESS):
                _, expires = await times(redis, nonce)
                seconds, _ = await redis.time()
                left_ms = expires - seconds * 1000
                assert now + left_ms - created[nonce.value] <= 2 * LIFE_MS + slack_ms
                assert nonce.value not in handed_out or left_ms > LIFE_MS - slack_ms
            await age(redis, step_ms)

        assert len(created) > 2 * MOST_OPEN

    async def test_of_parallel_requests_opens_no_more_than_five(self, nonces: Nonces) -> None:
        await asyncio.gather(*(nonces.issue(ADDRESS, ORIGIN) for _ in range(60)))

        assert len(await nonces.of(ADDRESS)) == MOST_OPEN
