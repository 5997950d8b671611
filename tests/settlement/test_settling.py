"""Settling when nothing goes wrong, and when a process ends in the middle of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core import redis_keys
from core.access.tier_cache import TierCache
from core.chain.payment_contract import PaymentContract
from tests.settlement.bench import RULES, Bench, Killed, killer


@pytest.mark.asyncio
class TestSettling:
    async def test_debits_what_was_used_and_tells_the_user(self, bench: Bench) -> None:
        user = bench.user()
        bench.uses(user, 700)
        bench.uses(user, 300)
        settler = await bench.recovered(bench.settler())

        await bench.settle(settler)

        assert bench.debits(user) == [1000]
        assert bench.credit(user) == {"cum": 1000, "settled": 1000, "inflight": 0}
        (told,) = bench.settlements(user)
        assert (told["tokens"], told["from_cum"], told["to_cum"], told["cost_wei"]) == (1000, 0, 1000, str(10**15))
        await settler.tick()
        status = bench.status()
        assert (status["state"], status["outstanding"], status["mismatch"]) == ("ok", 0, 0)
        assert status["address"] == bench.key.address.lower()

    async def test_counts_only_what_stands_deep_enough(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        assert bench.debits(user) == [10]

        bench.mine(2)
        await settler.tick()
        assert bench.credit(user) == {"cum": 10, "settled": 0, "inflight": 10}

        bench.mine(1)
        await settler.tick()
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}

    async def test_what_is_used_meanwhile_goes_with_the_next_one(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        bench.uses(user, 5)
        await settler.tick()
        assert bench.debits(user) == [10]  # one at a time

        await bench.settle(settler)

        assert bench.debits(user) == [10, 5]
        assert [(each["from_cum"], each["to_cum"]) for each in bench.settlements(user)] == [(0, 10), (10, 15)]

    async def test_the_transaction_tells_up_to_which_token_it_pays(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        for tokens in (10, 5):
            bench.uses(user, tokens)
            await bench.settle(settler)

        mined = [bench.chain.rpc("eth_getTransactionByHash", each["tx"]) for each in bench.settlements(user)]

        assert [int(each["input"][-64:], 16) for each in mined] == [10, 15]

    async def test_waits_until_it_is_worth_while(self, bench: Bench) -> None:
        user, other = bench.user(), bench.user()
        settler = await bench.recovered(bench.settler(replace(RULES, interval_s=3600, exposure_tokens=1000)))
        bench.uses(user, 499)
        bench.uses(other, 500)
        for name in bench.outstanding():
            bench.redis.zadd(redis_keys.OUTSTANDING, {name: bench.redis_ms() - 1000})

        await bench.settle(settler, turns=3)
        assert (bench.debits(user), bench.debits(other)) == ([], [500])

        bench.redis.zadd(redis_keys.OUTSTANDING, {user.address.lower(): bench.redis_ms() - 3_600_001})
        await bench.settle(settler)
        assert bench.debits(user) == [499]

    async def test_the_rest_is_as_old_as_its_own_use(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        before = bench.redis_ms()
        await settler.tick()
        bench.uses(user, 5)
        bench.mine(3)
        await bench.settler(replace(RULES, interval_s=3600)).tick()

        since = bench.redis.zscore(redis_keys.OUTSTANDING, user.address.lower())

        assert bench.credit(user) == {"cum": 15, "settled": 10, "inflight": 0}
        assert since is not None
        assert since >= before

    async def test_opens_sixteen_transactions_at_most_and_the_largest_first(self, bench: Bench) -> None:
        settler = await bench.recovered(bench.settler())
        users = [bench.user() for _ in range(19)]
        for number, user in enumerate(users):
            bench.uses(user, 100 + number)
        bench.automine(on=False)
        first = bench.next_nonce()

        await settler.tick()
        await settler.tick()

        assert bench.open() == list(range(first, first + 16))
        assert [bench.credit(user).get("inflight", 0) for user in users] == [0] * 3 + list(range(103, 119))
        bench.automine(on=True)
        await bench.settle(settler)
        assert [bench.debits(user) for user in users] == [[100 + number] for number in range(19)]

    async def test_the_tier_is_read_anew_once_it_is_mined(self, bench: Bench) -> None:
        user = bench.user()
        name = user.address.lower()
        settler = await bench.recovered(bench.settler())
        cache = TierCache(bench.store, bench.bus, bench.clock)
        bench.uses(user, 10)
        await settler.tick()
        bench.mine(1)
        _, claim = await cache.look(name)
        assert claim is not None
        await cache.keep(name, claim, await PaymentContract(bench.opened, bench.contract).credit(name))

        await settler.tick()

        entry, _ = await cache.look(name)
        assert entry is not None
        assert entry.fresh_until == 0

    async def test_old_charges_are_dropped_once_they_are_paid(self, bench: Bench) -> None:
        user = bench.user()
        name = redis_keys.charges(user.address.lower())
        bench.redis.zadd(name, {f"old_{number}": number / 100_000 for number in range(10_005)})
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        bench.uses(user, 5)
        bench.mine(3)
        await settler.tick()

        assert bench.redis.zcard(name) == 10_001  # the newest 10,000 that are paid, and the one that is not


STEPS = ["before_plan", "planned", "signed", "journaled", "sent", "confirmed", "final"]


@pytest.mark.asyncio
class TestAProcessThatIsKilled:
    @pytest.mark.parametrize("step", STEPS)
    async def test_at_any_step_leaves_nothing_out_and_nothing_twice(self, bench: Bench, step: str) -> None:
        user, other = bench.user(), bench.user()
        await bench.recovered(bench.settler())
        bench.uses(user, 500)
        bench.uses(other, 900)

        with pytest.raises(Killed):
            await bench.settle(bench.settler(at=killer(step)))
        await bench.settle(bench.settler())

        assert (bench.debits(user), bench.debits(other)) == ([500], [900])
        assert bench.credit(user) == {"cum": 500, "settled": 500, "inflight": 0}
        assert bench.credit(other) == {"cum": 900, "settled": 900, "inflight": 0}
        assert bench.outstanding() == []

    async def test_two_at_once_do_no_more_than_one(self, bench: Bench) -> None:
        first = await bench.recovered(bench.settler())
        second = bench.settler()
        users = [bench.user() for _ in range(5)]
        for turn in range(6):
            for number, user in enumerate(users):
                bench.uses(user, 1 + number + turn)
            await bench.both(first, second)
            bench.mine(2)
        await bench.settle(first, turns=12)

        assert [sum(bench.debits(user)) for user in users] == [21 + 6 * number for number in range(5)]
        assert [bench.credit(user)["settled"] for user in users] == [21 + 6 * number for number in range(5)]
