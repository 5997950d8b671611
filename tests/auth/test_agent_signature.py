"""Signed requests: the known vector, one use, and what a Redis that is away means."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from redis import Redis

from core import redis_keys
from core.auth.agent_signature import AgentClaim, AgentSignatures
from core.auth.used_signatures import DRIFT_S, UsedSignatures
from core.errors import StoreUnavailable, Unauthenticated
from core.store import Store, open_store
from tests.fakes.clock import FakeClock

# 32 bytes 0xab as key, the text inference:0xe239…5BC6:default:1700000000
VECTOR = {
    "x-agent-address": "0xe239cdc5fbe977a8a141B72194D3CF8c41bC5BC6",
    "x-agent-signature": "0x855de6de404d126fc0908fd5a85e181251ce9235a0b623e813cdf7fc17230e98"
    "216c073f2d15c4a377e846710fd02eae6614473ff09ba798429cbf92977f6d9e1b",
    "x-agent-timestamp": "1700000000",
}


def claim_of(headers: dict[str, str]) -> AgentClaim:
    claim = AgentClaim.from_headers(headers)
    assert claim is not None
    return claim


CLOCKS_S = 30  # what machines differ


@pytest.fixture
def signatures(store: Store) -> AgentSignatures:
    return AgentSignatures(UsedSignatures(store), FakeClock(1_700_000_000))


class TestAgentSignature:
    @pytest.mark.asyncio
    async def test_the_known_vector_is_good_once(self, signatures: AgentSignatures) -> None:
        assert (await signatures.verify(claim_of(VECTOR), "default")).subject == VECTOR["x-agent-address"].lower()

        with pytest.raises(Unauthenticated):
            await signatures.verify(claim_of(VECTOR), "default")

    @pytest.mark.asyncio
    async def test_a_wrong_model_does_not_use_it_up(self, signatures: AgentSignatures) -> None:
        with pytest.raises(Unauthenticated):
            await signatures.verify(claim_of(VECTOR), "other")

        assert await signatures.verify(claim_of(VECTOR), "default")

    @pytest.mark.asyncio
    async def test_whose_body_came_too_slowly_is_from_another_time(self, store: Store) -> None:
        clock = FakeClock(1_700_000_000 + DRIFT_S)
        signatures = AgentSignatures(UsedSignatures(store), clock)
        signatures.ensure_timely(claim_of(VECTOR))  # its head
        clock.advance(1)

        with pytest.raises(Unauthenticated):
            await signatures.verify(claim_of(VECTOR), "default")

    @pytest.mark.asyncio
    async def test_one_that_is_dated_ahead_is_remembered_longer_than_it_is_good(
        self, store: Store, redis_url: str
    ) -> None:
        claim = claim_of(VECTOR)
        ahead = AgentSignatures(UsedSignatures(store), FakeClock(claim.timestamp - DRIFT_S))
        assert await ahead.verify(claim, "default")

        mark = redis_keys.used_signature(sha256(claim.signature).hexdigest())
        with Redis.from_url(redis_url) as redis:
            assert redis.ttl(mark) >= 2 * DRIFT_S + CLOCKS_S

    @pytest.mark.asyncio
    async def test_when_redis_is_away_nothing_is_accepted(self, tmp_path: Path) -> None:
        async with open_store(f"unix://{tmp_path}/none.sock") as store:
            signatures = AgentSignatures(UsedSignatures(store), FakeClock(1_700_000_000))

            with pytest.raises(StoreUnavailable):
                await signatures.verify(claim_of(VECTOR), "default")

    @pytest.mark.parametrize(("now", "timely"), [(300, True), (301, False), (-300, True), (-301, False)])
    def test_it_is_timely_for_five_minutes_either_way(self, store: Store, now: int, timely: bool) -> None:
        signatures = AgentSignatures(UsedSignatures(store), FakeClock(1_700_000_000 + now))
        if timely:
            signatures.ensure_timely(claim_of(VECTOR))
        else:
            with pytest.raises(Unauthenticated):
                signatures.ensure_timely(claim_of(VECTOR))

    def test_a_request_without_the_headers_makes_no_claim(self) -> None:
        assert AgentClaim.from_headers({"x-agent": "1"}) is None
