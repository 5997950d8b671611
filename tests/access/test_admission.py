"""The gate: who is let in, with what, and what refusals say."""

from __future__ import annotations

import re
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec.structs import replace as changed

from core import redis_keys
from core.access.admission import Admission, Limits
from core.access.tiers import FreeForAll
from core.auth.caller import Caller
from core.catalog import Tier
from core.errors import (
    InvalidRequest,
    ProModel,
    RateLimited,
    StoreUnavailable,
    TooManyTokens,
    Unauthenticated,
    UnknownModel,
)
from core.inference.requests import InferenceRequest
from core.store import Store, open_store
from tests.access.gates import ADA, ASKED, BOB, CATALOG, LIMITS, THE_OPERATOR, Everyone, gate, used
from tests.fakes.clock import FakeClock
from tests.fakes.redis_server import RedisServer


@pytest.mark.asyncio
class TestGrant:
    async def test_carries_what_the_rest_of_the_way_needs(self, store: Store) -> None:
        grant = await gate(store).admit(ADA, ASKED)

        assert (grant.caller, grant.tier, grant.model.id, grant.max_tokens) == (ADA, Tier.FREE, "small", 8)
        assert grant.quota is not None
        assert (grant.quota.limit, grant.quota.used, grant.quota.remaining) == (3, 1, 2)

    async def test_request_ids_are_the_time_and_a_random_part(self, store: Store, clock: FakeClock) -> None:
        admission = Admission(store, FreeForAll(), CATALOG, LIMITS, clock)

        ids = [(await admission.admit(ADA, ASKED)).request_id for _ in range(2)]

        assert all(re.fullmatch(r"req_1800000000000_[0-9a-f]{16}", request_id) for request_id in ids)
        assert ids[0] != ids[1]

    async def test_reset_is_a_window_after_the_oldest_request(self, store: Store) -> None:
        admission = gate(store)
        before = time.time()
        first = (await admission.admit(ADA, ASKED)).quota
        after = time.time()
        second = (await admission.admit(ADA, ASKED)).quota

        assert first is not None
        assert second is not None
        assert int(before * 1000) + 3_600_000 <= first.reset_at_ms <= after * 1000 + 3_600_000
        assert second.reset_at_ms == first.reset_at_ms
        assert 3590 <= second.reset_after_s <= first.reset_after_s == 3600


@pytest.mark.asyncio
class TestModel:
    async def test_an_unknown_model_is_refused_in_the_old_words(self, store: Store) -> None:
        with pytest.raises(UnknownModel, match=r"^Model nope/x not found$"):
            await gate(store).admit(ADA, InferenceRequest(model="nope/x", prompt="hi"))

    async def test_a_pro_model_is_refused_to_a_free_user_in_the_old_words(self, store: Store) -> None:
        with pytest.raises(ProModel, match=r"^Model big requires Pro tier$"):
            await gate(store).admit(ADA, changed(ASKED, model="big"))

    async def test_a_pro_model_is_granted_to_a_pro_user(self, store: Store) -> None:
        grant = await gate(store, tiers=Everyone(Tier.PRO)).admit(ADA, changed(ASKED, model="big"))

        assert (grant.tier, grant.model.id) == (Tier.PRO, "big")


@pytest.mark.asyncio
class TestMaxTokens:
    @pytest.mark.parametrize(
        ("tier", "limit", "told"),
        [
            (Tier.FREE, 2048, "max_tokens exceeds limit for free tier (2048)"),
            (Tier.PRO, 4096, "max_tokens exceeds limit for pro tier (4096)"),
        ],
    )
    async def test_over_the_tiers_limit_is_refused_in_the_old_words(
        self, store: Store, tier: Tier, limit: int, told: str
    ) -> None:
        admission = gate(store, tiers=Everyone(tier))

        with pytest.raises(TooManyTokens) as refused:
            await admission.admit(ADA, changed(ASKED, max_tokens=limit + 1))

        assert refused.value.message == told
        assert (await admission.admit(ADA, changed(ASKED, max_tokens=limit))).max_tokens == limit

    async def test_over_the_models_own_limit_is_refused(self, store: Store) -> None:
        admission = gate(store)

        with pytest.raises(TooManyTokens) as refused:
            await admission.admit(ADA, changed(ASKED, model="terse", max_tokens=101))

        assert refused.value.message == "max_tokens exceeds limit for model terse (100)"
        assert (await admission.admit(ADA, changed(ASKED, model="terse", max_tokens=100))).max_tokens == 100

    @pytest.mark.parametrize(
        ("model", "free_max_tokens", "granted"), [("small", 2048, 512), ("terse", 2048, 100), ("small", 64, 64)]
    )
    async def test_none_is_the_models_default_within_all_limits(
        self, store: Store, model: str, free_max_tokens: int, granted: int
    ) -> None:
        admission = gate(store, limits=replace(LIMITS, free_max_tokens=free_max_tokens))

        grant = await admission.admit(ADA, InferenceRequest(model=model, prompt="hi"))

        assert grant.max_tokens == granted


@pytest.mark.asyncio
class TestQuota:
    async def test_over_the_limit_is_refused_with_the_old_details_and_all_headers(self, store: Store) -> None:
        admission = gate(store)
        first = (await admission.admit(ADA, ASKED)).quota
        await admission.admit(ADA, ASKED)
        await admission.admit(ADA, ASKED)

        with pytest.raises(RateLimited, match=r"^Rate limit exceeded$") as refused:
            await admission.admit(ADA, ASKED)

        details, headers = refused.value.details, refused.value.headers
        assert first is not None
        assert details is not None
        assert (details["used"], details["limit"]) == (3, 3)
        moment, ms = divmod(first.reset_at_ms, 1000)
        assert details["resetAt"] == time.strftime(f"%Y-%m-%dT%H:%M:%S.{ms:03}Z", time.gmtime(moment))
        assert 3590 <= int(headers["Retry-After"]) <= 3600
        assert headers["RateLimit"] == f'"free";r=0;t={headers["Retry-After"]}'
        assert headers["x-ratelimit-remaining-requests"] == "0"

    async def test_every_address_has_its_own_window(self, store: Store) -> None:
        admission = gate(store, limits=replace(LIMITS, free_requests=1))
        await admission.admit(ADA, ASKED)

        assert (await admission.admit(BOB, ASKED)).quota is not None

    @pytest.mark.parametrize(
        "wrong",
        [
            InferenceRequest(model="nope", prompt="hi"),
            changed(ASKED, model="big"),
            changed(ASKED, max_tokens=2049),
            changed(ASKED, model="terse", max_tokens=101),
        ],
    )
    async def test_a_refused_request_never_counts(self, store: Store, wrong: InferenceRequest) -> None:
        admission = gate(store)
        for _ in range(12):
            with pytest.raises(InvalidRequest):
                await admission.admit(ADA, wrong)

        assert await used(store) == 0

    async def test_a_request_over_the_limit_does_not_prolong_the_wait(self, store: Store) -> None:
        admission = gate(store, limits=replace(LIMITS, free_requests=1))
        first = (await admission.admit(ADA, ASKED)).quota
        for _ in range(5):
            with pytest.raises(RateLimited):
                await admission.admit(ADA, ASKED)

        assert first is not None
        assert await used(store) == 1

    @pytest.mark.parametrize(("caller", "tier"), [(ADA, Tier.PRO), (THE_OPERATOR, None)])
    async def test_pro_users_and_the_operator_have_none(self, store: Store, caller: Caller, tier: Tier | None) -> None:
        admission = gate(store, tiers=Everyone(tier) if tier else None)

        grants = [await admission.admit(caller, ASKED) for _ in range(LIMITS.free_requests + 2)]

        assert [grant.quota for grant in grants] == [None] * len(grants)


@pytest.mark.asyncio
class TestRevocation:
    @pytest.mark.parametrize("tier", [Tier.FREE, Tier.PRO])
    async def test_a_token_that_was_logged_out_is_refused_and_counts_nothing(self, store: Store, tier: Tier) -> None:
        await store.set(redis_keys.revoked("jti-ada"), "1", ttl_s=60)

        with pytest.raises(Unauthenticated):
            await gate(store, tiers=Everyone(tier)).admit(ADA, ASKED)

        assert await used(store, replace(ADA, token_id="jti-new")) == 0

    async def test_another_token_of_the_same_wallet_still_works(self, store: Store) -> None:
        await store.set(redis_keys.revoked("jti-old"), "1", ttl_s=60)

        assert (await gate(store).admit(ADA, ASKED)).caller == ADA


@pytest.mark.asyncio
class TestWithoutRedis:
    @pytest.mark.parametrize("tier", [Tier.FREE, Tier.PRO])
    async def test_nobody_is_let_in_and_is_told_within_a_second(self, tmp_path: Path, tier: Tier) -> None:
        async with open_store(f"unix://{tmp_path}/none.sock") as store:
            started = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await gate(store, tiers=Everyone(tier)).admit(ADA, ASKED)

        assert time.monotonic() - started < 1

    async def test_a_redis_that_hangs_is_one_that_is_away(self, own_redis: RedisServer) -> None:
        assert own_redis.process is not None
        async with open_store(own_redis.url) as store:
            admission = gate(store)
            await admission.admit(ADA, ASKED)
            own_redis.process.send_signal(signal.SIGSTOP)
            started = time.monotonic()
            try:
                with pytest.raises(StoreUnavailable):
                    await admission.admit(ADA, ASKED)
                took = time.monotonic() - started
            finally:
                own_redis.process.send_signal(signal.SIGCONT)

        assert took < 1


class TestLimits:
    def test_each_tier_has_its_longest_answer(self) -> None:
        limits = Limits(free_requests=1, window_s=1, free_max_tokens=2, pro_max_tokens=3)

        assert [limits.max_tokens(tier) for tier in (Tier.FREE, Tier.PRO)] == [2, 3]
