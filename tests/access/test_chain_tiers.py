"""Tiers from the chain: one question for all who ask, what holds while the chain is away, what ends a cached tier."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from core.access.chain_tiers import ChainTiers
from core.access.tier_cache import TierCache
from core.access.tier_events import TierEvents
from core.access.tiers import Source
from core.auth.caller import Caller
from core.bus import open_bus
from core.catalog import Tier
from core.chain.chain import Chain, ChainState, open_chain
from core.chain.payment_contract import PaymentContract
from core.chain.payment_events import PaymentEvents
from core.errors import StoreUnavailable
from core.store import open_store
from tests.access.gates import THE_OPERATOR
from tests.fakes.chain import CHAIN_ID, PLM, TestChain
from tests.fakes.clock import FakeClock
from tests.fakes.rpc_proxy import Fault, RpcProxy


@pytest.fixture
def rpc(chain: TestChain) -> Iterator[RpcProxy]:
    """An endpoint before the chain."""
    with RpcProxy(chain.url) as proxy:
        yield proxy


class Worker:
    """What one web worker has: memory, connections, and a view of the chain of its own."""

    def __init__(self, tiers: ChainTiers, cache: TierCache, chain: Chain, events: TierEvents) -> None:
        self.tiers, self.cache, self.chain, self.events = tiers, cache, chain, events

    async def until(self, state: ChainState) -> None:
        """Waits until this worker sees the chain so."""
        async with asyncio.timeout(10):
            while self.chain.state is not state:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def worker(redis_url: str, rpc_url: str, contract: str, clock: FakeClock) -> AsyncIterator[Worker]:
    """A worker; patient with Redis, since a test machine may be busy."""
    async with (
        open_store(redis_url, timeout_s=10) as store,
        open_bus(redis_url) as bus,
        open_chain(rpc_url, CHAIN_ID) as chain,
    ):
        cache = TierCache(store, bus, clock)
        tiers = ChainTiers(cache, PaymentContract(chain, contract), bus, clock)
        await tiers.start()
        yield Worker(tiers, cache, chain, TierEvents(cache, PaymentEvents(chain, contract)))
        await tiers.stop()


@pytest.fixture
def opened(redis_url: str, rpc: RpcProxy, chain: TestChain, clock: FakeClock) -> Workers:
    """Opens workers over one Redis and one endpoint."""
    return Workers(redis_url, rpc.url, chain.contract, clock)


class Workers:
    """Several workers of one fleet."""

    def __init__(self, redis_url: str, rpc_url: str, contract: str, clock: FakeClock) -> None:
        self._how = (redis_url, rpc_url, contract, clock)

    @asynccontextmanager
    async def __call__(self, count: int = 1) -> AsyncIterator[list[Worker]]:
        async with AsyncExitStack() as stack:
            yield [await stack.enter_async_context(worker(*self._how)) for _ in range(count)]


def pro(chain: TestChain, plm: int = 150) -> Caller:
    """A user who has paid in."""
    user = chain.account()
    chain.deposit(user, plm)
    return Caller(user.address.lower(), "jti")


async def settled() -> None:
    """Lets what goes on behind a request happen."""
    await asyncio.sleep(0.1)


@pytest.mark.asyncio
class TestLookups:
    async def test_tell_the_tier_and_the_credit(self, chain: TestChain, opened: Workers) -> None:
        payer, nobody = pro(chain), Caller("0x" + "7" * 40, "jti")
        async with opened() as (one,):
            standing = await one.tiers.standing_of(payer)

            assert (standing.tier, standing.source) == (Tier.PRO, Source.FRESH)
            assert standing.credit is not None
            assert standing.credit.balance == 150 * PLM
            assert await one.tiers.tier_of(nobody) is Tier.FREE
            assert await one.tiers.tier_of(THE_OPERATOR) is Tier.PRO

    async def test_a_thousand_at_once_in_four_workers_are_one_question(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers
    ) -> None:
        payer = pro(chain)
        async with opened(4) as workers:
            rpc.calls.clear()
            rpc.delay_s = 0.05
            found = await asyncio.gather(*(workers[number % 4].tiers.standing_of(payer) for number in range(1000)))

            assert {(standing.tier, standing.source) for standing in found} == {(Tier.PRO, Source.FRESH)}
            assert rpc.calls["eth_call"] == 1

    async def test_one_who_leaves_does_not_end_it_for_the_others(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers
    ) -> None:
        payer = pro(chain)
        async with opened() as (one,):
            rpc.delay_s = 0.1
            first = asyncio.create_task(one.tiers.tier_of(payer))
            second = asyncio.create_task(one.tiers.tier_of(payer))
            await asyncio.sleep(0.02)
            first.cancel()

            assert await second is Tier.PRO

    async def test_what_is_fresh_needs_neither_chain_nor_redis(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers
    ) -> None:
        payer = pro(chain)
        async with opened() as (one,):
            await one.tiers.tier_of(payer)
            rpc.calls.clear()
            await asyncio.gather(*(one.tiers.tier_of(payer) for _ in range(100)))

            assert rpc.calls == {}

    async def test_a_worker_that_dies_while_it_asks_does_not_block_the_others_for_ever(
        self, chain: TestChain, opened: Workers
    ) -> None:
        payer = pro(chain)
        async with opened() as (one,):
            _, claim = await one.cache.look(payer.subject)  # and nothing more is heard of it
            assert claim is not None
            first = await one.tiers.standing_of(payer)
            assert first.source is Source.UNKNOWN
            async with asyncio.timeout(10):
                while (await one.tiers.standing_of(payer)).tier is not Tier.PRO:
                    await asyncio.sleep(0.05)


@pytest.mark.asyncio
class TestAge:
    async def test_an_entry_is_read_anew_before_its_end_behind_the_back_of_the_request(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers, clock: FakeClock
    ) -> None:
        payer = pro(chain)
        async with opened(2) as (one, other):
            await one.tiers.tier_of(payer)
            rpc.calls.clear()
            clock.advance(210)  # less than 80 % of the shortest life
            await one.tiers.tier_of(payer)
            await settled()
            assert rpc.calls["eth_call"] == 0
            clock.advance(56)  # more than 80 % of the longest, less than the shortest
            rpc.delay_s = 0.05
            found = await asyncio.gather(*(each.tiers.standing_of(payer) for each in (one, other) * 20))
            assert {standing.source for standing in found} == {Source.FRESH}
            await asyncio.sleep(0.5)

            assert rpc.calls["eth_call"] == 1
            clock.advance(200)
            rpc.calls.clear()
            assert (await other.tiers.standing_of(payer)).source is Source.FRESH
            assert rpc.calls["eth_call"] == 0

    async def test_after_its_end_the_chain_is_asked_first(
        self, chain: TestChain, opened: Workers, clock: FakeClock
    ) -> None:
        user = chain.account()
        caller = Caller(user.address.lower(), "jti")
        async with opened() as (one,):
            assert await one.tiers.tier_of(caller) is Tier.FREE
            chain.deposit(user, 100)
            clock.advance(331)

            assert await one.tiers.tier_of(caller) is Tier.PRO


@pytest.mark.asyncio
class TestAChainThatIsAway:
    async def test_for_an_hour_demotes_nobody_who_is_known_as_pro(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers, clock: FakeClock
    ) -> None:
        payers = [pro(chain) for _ in range(10)]
        async with opened(2) as (one, other):
            for payer in payers:
                await one.tiers.tier_of(payer)
            rpc.fault = Fault.DROP
            clock.advance(299)
            for _ in range(13):
                for each in (one, other):
                    found = [await each.tiers.standing_of(payer) for payer in payers]
                    assert {standing.tier for standing in found} == {Tier.PRO}
                clock.advance(276)  # 60 minutes in all
            assert {standing.source for standing in found} == {Source.STALE}

            rpc.fault = None
            await one.until(ChainState.OK)
            assert (await one.tiers.standing_of(payers[0])).source is Source.FRESH

    async def test_for_longer_makes_no_promise(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers, clock: FakeClock
    ) -> None:
        payer = pro(chain)
        async with opened() as (one,):
            await one.tiers.tier_of(payer)
            rpc.fault = Fault.BAD_GATEWAY
            clock.advance(3600 + 331)
            standing = await one.tiers.standing_of(payer)

            assert (standing.tier, standing.source) == (Tier.FREE, Source.UNKNOWN)

    async def test_an_unknown_user_is_free_only_until_it_is_back(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers
    ) -> None:
        payer = pro(chain)
        rpc.fault = Fault.ERROR
        async with opened() as (one,):
            standing = await one.tiers.standing_of(payer)
            assert (standing.tier, standing.source) == (Tier.FREE, Source.UNKNOWN)
            rpc.fault = None
            await one.until(ChainState.OK)

            assert await one.tiers.tier_of(payer) is Tier.PRO

    async def test_another_chain_counts_as_away(self, chain: TestChain, rpc: RpcProxy, opened: Workers) -> None:
        payer = pro(chain)
        rpc.fault = Fault.OTHER_CHAIN
        async with opened() as (one,):
            assert (await one.tiers.standing_of(payer)).source is Source.UNKNOWN
            assert rpc.calls["eth_call"] == 0


@pytest.mark.asyncio
class TestEvents:
    async def test_end_what_every_worker_remembers(self, chain: TestChain, opened: Workers) -> None:
        user = chain.account()
        caller = Caller(user.address.lower(), "jti")
        async with opened(3) as workers:
            await workers[0].events.catch_up()
            for each in workers:
                assert await each.tiers.tier_of(caller) is Tier.FREE
            chain.deposit(user, 100)
            await workers[0].events.catch_up()
            await settled()
            assert [await each.tiers.tier_of(caller) for each in workers] == [Tier.PRO] * 3
            chain.use(user.address, 1)
            await workers[1].events.catch_up()  # another one leads now
            await settled()

            assert [await each.tiers.tier_of(caller) for each in workers] == [Tier.FREE] * 3

    async def test_are_made_up_for_after_a_break(self, chain: TestChain, rpc: RpcProxy, opened: Workers) -> None:
        user = chain.account()
        caller = Caller(user.address.lower(), "jti")
        async with opened() as (one,):
            await one.events.catch_up()
            await one.tiers.tier_of(caller)
            chain.deposit(user, 100)
            chain.mine(1200)
            await one.events.catch_up()
            await settled()

            assert await one.tiers.tier_of(caller) is Tier.PRO
            assert rpc.calls["eth_getLogs"] >= 4  # not all blocks at once

    async def test_are_told_once_though_blocks_are_read_twice(self, chain: TestChain, opened: Workers) -> None:
        user = chain.account()
        caller = Caller(user.address.lower(), "jti")
        async with opened() as (one,):
            await one.events.catch_up()
            chain.deposit(user, 100)
            await one.events.catch_up()
            await one.tiers.tier_of(caller)
            chain.mine()
            await one.events.catch_up()
            entry, _ = await one.cache.look(caller.subject)

            assert entry is not None
            assert entry.fresh_until > 0

    async def test_a_reading_from_before_is_not_kept_after(
        self, chain: TestChain, opened: Workers, clock: FakeClock
    ) -> None:
        caller = pro(chain)
        async with opened() as (one,):
            _, claim = await one.cache.look(caller.subject)
            assert claim is not None
            credit = await one.tiers._contract.credit(caller.subject)
            await one.cache.expire(caller.subject)
            await one.cache.keep(caller.subject, claim, credit)

            assert (await one.cache.look(caller.subject))[0] is None

    async def test_while_the_chain_is_away_the_last_answer_holds(
        self, chain: TestChain, rpc: RpcProxy, opened: Workers
    ) -> None:
        caller = pro(chain)
        async with opened() as (one,):
            await one.tiers.tier_of(caller)
            rpc.fault = Fault.DROP
            await one.cache.expire(caller.subject)
            await settled()
            standing = await one.tiers.standing_of(caller)

            assert (standing.tier, standing.source) == (Tier.PRO, Source.STALE)


@pytest.mark.asyncio
async def test_without_redis_nobody_is_let_in_unseen(chain: TestChain, clock: FakeClock) -> None:
    async with worker("redis://127.0.0.1:9/0", chain.url, chain.contract, clock) as one:
        with pytest.raises(StoreUnavailable):
            await one.tiers.tier_of(pro(chain))
