"""A transaction on its way: fees, lost answers, lost transactions, blocks that are taken back."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from core.settlement.fees import Fees, burning, first, raised
from tests.fakes.rpc_proxy import Fault, RpcProxy
from tests.settlement.bench import GWEI, RULES, Bench, Killed, killer, open_bench

SENDS = [Fault.DROP, Fault.DROP_AFTER, Fault.BAD_GATEWAY, Fault.GARBAGE, Fault.ERROR, Fault.NULL]


class TestFees:
    def test_of_a_new_one_outlive_a_base_fee_that_doubles(self) -> None:
        assert first(7 * GWEI, 100 * GWEI) == Fees(15 * GWEI, GWEI)

    def test_never_pass_the_cap(self) -> None:
        assert first(90 * GWEI, 100 * GWEI) == Fees(100 * GWEI, GWEI)
        assert raised(Fees(87 * GWEI, GWEI), 0, 100 * GWEI) is None

    def test_rise_enough_for_a_node_to_take_the_replacement(self) -> None:
        fees: Fees | None = first(GWEI, 100 * GWEI)
        while fees is not None:
            last, fees = fees, raised(fees, GWEI, 100 * GWEI)
            if fees is not None:
                assert 1.125 <= fees.max_fee / last.max_fee <= 1.151
                assert 1.125 <= fees.tip / last.tip <= 1.151
        assert 87 * GWEI - 1 <= last.max_fee <= 100 * GWEI

    def test_follow_a_chain_that_grew_dear(self) -> None:
        assert raised(Fees(3 * GWEI, GWEI), 20 * GWEI, 100 * GWEI) == Fees(41 * GWEI, 1_150_000_000)

    def test_that_drive_out_another_one_end_above_anything_within_the_cap(self) -> None:
        offers = [burning(turn, 100 * GWEI) for turn in range(11)]

        assert offers[0] == Fees(125 * GWEI, GWEI)
        assert all(new.max_fee >= old.max_fee * 1.1 and new.tip >= old.tip * 1.1 for old, new in pairwise(offers))
        assert burning(50, 100 * GWEI) == offers[-1]
        assert offers[-1].tip == 1024 * GWEI


@pytest.mark.asyncio
class TestAnEndpoint:
    @pytest.mark.parametrize("fault", SENDS)
    async def test_whatever_it_says_to_a_transaction_the_debit_is_made_once(
        self, bench: Bench, redis_url: str, fault: Fault
    ) -> None:
        with RpcProxy(bench.chain.url) as rpc:
            async with open_bench(bench.chain, redis_url, rpc.url) as other:
                user = other.user()

                def at(step: str) -> None:
                    rpc.fault = fault if step == "journaled" else None

                settler = await other.recovered(other.settler(at=at))
                other.uses(user, 10)
                await settler.tick()
                rpc.fault = None
                other.mine(1)
                await other.settle(other.settler())

                assert other.debits(user) == [10]
                assert other.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}

    async def test_that_tells_of_a_block_which_is_not_in_the_chain_is_not_believed(
        self, bench: Bench, redis_url: str
    ) -> None:
        with _Forgetful(bench.chain.url) as rpc:
            async with open_bench(bench.chain, redis_url, rpc.url) as other:
                user = other.user()
                settler = await other.recovered(other.settler())
                other.uses(user, 10)
                rpc.lies = True
                await settler.tick()
                other.mine(5)
                await settler.tick()
                assert other.credit(user) == {"cum": 10, "settled": 0, "inflight": 10}

                rpc.lies = False
                await other.settle(settler)
                assert other.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}


class _Forgetful(RpcProxy):
    """Keeps receipts of blocks that were taken back."""

    lies = False

    async def _forward(self, body: dict[str, Any]) -> Any:
        answer = await super()._forward(body)
        if self.lies and body["method"] == "eth_getTransactionReceipt" and answer["result"]:
            answer["result"]["blockHash"] = "0x" + "ab" * 32
        return answer


@pytest.mark.asyncio
class TestATransaction:
    async def test_that_waits_too_long_offers_more_and_does_the_same(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.automine(on=False)
        bench.uses(user, 10)
        await settler.tick()
        (nonce,) = bench.open()

        for _ in range(3):
            await settler.tick()  # not yet
            bench.clock.advance(21)
            await settler.tick()

        attempts = bench.attempts(nonce)
        assert len(attempts) == 4
        fees = [(each["max_fee"], each["tip"]) for each in attempts]
        assert all(1.125 <= new / old <= 1.151 for a, b in pairwise(fees) for old, new in zip(a, b, strict=True))
        assert len({bench.calldata(each["raw"]) for each in attempts}) == 1
        bench.automine(on=True)
        bench.mine(1)
        await bench.settle(settler)
        assert bench.debits(user) == [10]
        assert bench.settlements(user)[0]["tx"] == attempts[-1]["hash"]

    async def test_offers_no_more_than_the_cap(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler(replace(RULES, max_fee=3 * GWEI)))
        bench.automine(on=False)
        bench.uses(user, 10)
        for _ in range(8):
            await settler.tick()
            bench.clock.advance(21)
        (nonce,) = bench.open()

        assert max(each["max_fee"] for each in bench.attempts(nonce)) <= 3 * GWEI

    async def test_behind_another_one_waits_without_offering_more(self, bench: Bench) -> None:
        users = [bench.user(), bench.user()]
        settler = await bench.recovered(bench.settler())
        bench.automine(on=False)
        for user in users:
            bench.uses(user, 10)
        await settler.tick()
        bench.clock.advance(21)
        await settler.tick()

        assert [len(bench.attempts(nonce)) for nonce in bench.open()] == [2, 1]

    async def test_that_the_pool_lost_is_sent_again(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.automine(on=False)
        bench.uses(user, 10)
        await settler.tick()
        (nonce,) = bench.open()
        bench.drop(bench.attempts(nonce)[0]["hash"])
        bench.mine(1)
        assert bench.debits(user) == []

        await settler.tick()
        bench.mine(1)

        assert bench.debits(user) == [10]
        assert len(bench.attempts(nonce)) == 1

    async def test_in_a_block_that_is_taken_back_is_made_once_all_the_same(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 10)
        await settler.tick()
        bench.mine(1)
        await settler.tick()
        assert bench.debits(user) == [10]

        bench.chain.rpc("anvil_reorg", 2, [])
        assert bench.debits(user) == []
        await settler.tick()
        assert bench.credit(user) == {"cum": 10, "settled": 0, "inflight": 10}
        await bench.settle(settler)

        assert bench.debits(user) == [10]
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}

    @pytest.mark.parametrize("step", ["bump_signed", "bump_journaled", "bump_sent"])
    async def test_whose_process_is_killed_while_it_offers_more_is_made_once(self, bench: Bench, step: str) -> None:
        user = bench.user()
        await bench.recovered(bench.settler())
        bench.automine(on=False)
        bench.uses(user, 10)
        settler = bench.settler(at=killer(step))
        await settler.tick()
        bench.clock.advance(21)
        with pytest.raises(Killed):
            await settler.tick()

        bench.automine(on=True)
        bench.mine(1)
        await bench.settle(bench.settler())

        assert bench.debits(user) == [10]
        assert bench.credit(user) == {"cum": 10, "settled": 10, "inflight": 0}
