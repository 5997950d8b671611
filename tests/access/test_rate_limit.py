"""The window of Free requests: never one too many, and what its headers say."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

import pytest
import redis

from core import redis_keys
from core.access.admission import Admission
from core.access.grant import Quota
from core.access.rate_limit import RateLimiter, quota_headers
from core.auth.caller import Caller
from core.catalog import Tier
from core.errors import RateLimited
from core.store import Store, open_store
from tests.access.gates import ADA, ASKED, LIMITS, THE_OPERATOR, Everyone, gate, quota_used

WINDOW_S = 1
HOUR_MS = 3_600_000


def limiter(store: Store, limit: int = 3, window_s: int = 3600) -> RateLimiter:
    return RateLimiter(store, limit=limit, window_s=window_s, lease_s=360)


async def outcome(admission: Admission) -> str:
    try:
        await admission.admit(ADA, ASKED)
    except RateLimited:
        return "refused"
    return "admitted"


def members(redis_url: str, caller: Caller = ADA) -> list[tuple[str, float]]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as raw:
        entries: list[tuple[str, float]] = raw.zrange(redis_keys.quota(caller.subject), 0, -1, withscores=True)
    return [(member, score) for member, score in entries]


def redis_ms(raw: redis.Redis) -> int:
    seconds, micros = raw.time()
    return int(seconds * 1000 + micros // 1000)


@pytest.mark.asyncio
class TestConcurrency:
    async def test_a_thousand_at_once_over_two_stores_let_exactly_the_limit_in(self, redis_url: str) -> None:
        async with open_store(redis_url, timeout_s=10) as one, open_store(redis_url, timeout_s=10) as two:
            limits = replace(LIMITS, free_requests=10)
            gates = [gate(store, limits=limits) for store in (one, two)]

            outcomes = Counter(await asyncio.gather(*(outcome(gates[i % 2]) for i in range(1000))))

        assert outcomes == {"admitted": 10, "refused": 990}
        assert len(members(redis_url)) == 10


@pytest.mark.asyncio
class TestSlidingWindow:
    async def test_a_slot_returns_one_window_after_it_was_taken_and_no_sooner(self, store: Store) -> None:
        limit, wanted = 3, 8
        limiting = limiter(store, limit, WINDOW_S)
        spans: list[tuple[float, float]] = []  # before and after each admission: its moment is in between
        deadline = time.monotonic() + 30
        while len(spans) < wanted and time.monotonic() < deadline:
            before = time.monotonic()
            try:
                await limiting.enter(f"req_{len(spans)}", ADA, Tier.FREE)
            except RateLimited:
                await asyncio.sleep(0.02)
            else:
                spans.append((before, time.monotonic()))

        assert len(spans) == wanted
        # A little grace: Redis counts whole milliseconds, on a clock that may be slewed.
        early = [i for i in range(wanted - limit) if spans[i + limit][1] - spans[i][0] < WINDOW_S - 0.01]
        assert early == []

    async def test_who_waits_as_long_as_he_is_told_has_waited_long_enough(self, store: Store, redis_url: str) -> None:
        limiting = limiter(store)
        await limiting.enter("req_1", ADA, Tier.FREE)
        with redis.Redis.from_url(redis_url) as raw:
            raw.zincrby(redis_keys.quota(ADA.subject), -500, "req_1")
            quota = await limiting.enter("req_2", ADA, Tier.FREE)

            assert quota is not None
            assert redis_ms(raw) + quota.reset_after_s * 1000 >= quota.reset_at_ms

    async def test_the_log_never_grows_over_the_limit_and_goes_with_its_last_entry(
        self, store: Store, redis_url: str
    ) -> None:
        for i in range(20):
            try:
                await limiter(store, 3, WINDOW_S).enter(f"req_{i}", ADA, Tier.FREE)
            except RateLimited:
                continue

        assert len(members(redis_url)) <= 3
        with redis.Redis.from_url(redis_url) as raw:
            assert raw.pttl(redis_keys.quota(ADA.subject)) <= WINDOW_S * 1000


@pytest.mark.asyncio
class TestRequestId:
    async def test_the_same_id_is_counted_once_and_answered_alike(self, store: Store) -> None:
        limiting = limiter(store)

        answers = [await limiting.enter("req_1", ADA, Tier.FREE) for _ in range(5)]

        assert all(quota is not None and (quota.used, quota.remaining) == (1, 2) for quota in answers)

    async def test_the_same_id_is_still_let_in_when_the_window_is_full(self, store: Store) -> None:
        limiting = limiter(store, limit=1)
        first = await limiting.enter("req_1", ADA, Tier.FREE)
        with pytest.raises(RateLimited):
            await limiting.enter("req_2", ADA, Tier.FREE)

        again = await limiting.enter("req_1", ADA, Tier.FREE)

        assert first is not None
        assert again is not None
        assert (again.used, again.reset_at_ms) == (1, first.reset_at_ms)


@pytest.mark.asyncio
class TestClockSteps:
    async def test_entries_from_the_future_still_take_their_slots(self, store: Store, redis_url: str) -> None:
        limiting, key = limiter(store), redis_keys.quota(ADA.subject)
        await limiting.enter("req_1", ADA, Tier.FREE)
        with redis.Redis.from_url(redis_url) as raw:
            raw.zadd(key, {"req_1": redis_ms(raw) + 2 * HOUR_MS})

        await limiting.enter("req_2", ADA, Tier.FREE)
        await limiting.enter("req_3", ADA, Tier.FREE)
        with pytest.raises(RateLimited):
            await limiting.enter("req_4", ADA, Tier.FREE)

        scores = [score for _, score in members(redis_url)]
        assert min(scores) == max(scores)  # nobody stands before the one who was there first

    async def test_an_entry_from_the_future_does_not_push_honest_ones_out(self, store: Store, redis_url: str) -> None:
        limiting, key = limiter(store), redis_keys.quota(ADA.subject)
        for i in range(3):
            await limiting.enter(f"req_{i}", ADA, Tier.FREE)
        with redis.Redis.from_url(redis_url) as raw:
            raw.zadd(key, {"req_2": redis_ms(raw) + 2 * HOUR_MS})

        with pytest.raises(RateLimited):
            await limiting.enter("req_3", ADA, Tier.FREE)

        assert len(members(redis_url)) == 3

    async def test_the_log_lives_as_long_as_its_newest_entry_counts(self, store: Store, redis_url: str) -> None:
        limiting, key = limiter(store), redis_keys.quota(ADA.subject)
        await limiting.enter("req_1", ADA, Tier.FREE)
        with redis.Redis.from_url(redis_url) as raw:
            raw.zadd(key, {"req_1": redis_ms(raw) + 2 * HOUR_MS})
            await limiting.enter("req_2", ADA, Tier.FREE)

            assert raw.pttl(key) > 2.9 * HOUR_MS


@pytest.mark.asyncio
class TestRoundTrips:
    @pytest.mark.parametrize(
        ("caller", "tier"), [(ADA, Tier.FREE), (ADA, Tier.PRO), (THE_OPERATOR, Tier.PRO)], ids=["free", "pro", "key"]
    )
    async def test_an_admission_is_one_command(self, store: Store, redis_url: str, caller: Caller, tier: Tier) -> None:
        admission = gate(store, limits=replace(LIMITS, free_requests=100), tiers=Everyone(tier))
        await admission.admit(caller, ASKED)  # connects and loads the script
        with redis.Redis.from_url(redis_url, decode_responses=True) as raw:
            raw.config_resetstat()
            for _ in range(50):
                await admission.admit(caller, ASKED)
            reads, commands = raw.info("stats")["total_reads_processed"], raw.info("commandstats")

        assert reads == 50 + 1  # and the question itself
        assert commands["cmdstat_evalsha"]["calls"] == 50
        assert not {"cmdstat_eval", "cmdstat_script|load", "cmdstat_get"} & set(commands)


@pytest.mark.asyncio
class TestLostReply:
    async def test_a_caller_who_leaves_in_the_middle_does_not_disturb_the_next(self, store: Store) -> None:
        admission = gate(store, limits=replace(LIMITS, free_requests=1000))
        for i in range(50):
            leaving = asyncio.ensure_future(admission.admit(ADA, ASKED))
            await asyncio.sleep(0.0001 * (i % 5))
            leaving.cancel()
            await asyncio.gather(leaving, return_exceptions=True)

        assert quota_used(await admission.admit(Caller("0x" + "c" * 40), ASKED)) == 1


class TestQuotaHeaders:
    def test_say_the_same_in_both_spellings(self) -> None:
        quota = Quota(limit=10, used=3, window_s=3600, reset_at_ms=0, reset_after_s=1834)

        assert quota_headers(quota) == {
            "RateLimit-Policy": '"free";q=10;w=3600',
            "RateLimit": '"free";r=7;t=1834',
            "x-ratelimit-limit-requests": "10",
            "x-ratelimit-remaining-requests": "7",
            "x-ratelimit-reset-requests": "30m34s",
        }

    def test_are_absent_without_a_quota(self) -> None:
        assert quota_headers(None) == {}

    def test_never_say_less_than_none_is_left(self) -> None:
        quota = Quota(limit=3, used=5, window_s=60, reset_at_ms=0, reset_after_s=1)

        assert quota_headers(quota)["RateLimit"] == '"free";r=0;t=1'

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(1, "1s"), (59, "59s"), (60, "1m0s"), (1752, "29m12s"), (3600, "1h0m0s"), (90061, "25h1m1s")],
    )
    def test_the_reset_is_a_go_duration(self, seconds: int, text: str) -> None:
        quota = Quota(limit=10, used=1, window_s=3600, reset_at_ms=0, reset_after_s=seconds)

        assert quota_headers(quota)["x-ratelimit-reset-requests"] == text
