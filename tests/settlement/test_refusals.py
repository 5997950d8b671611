"""What stands against a debit: an empty deposit, another gateway, no gas, the wrong chain."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest

from core import redis_keys
from core.settlement.keyless import Keyless
from tests.fakes.chain import TREASURY
from tests.fakes.rpc_proxy import Fault, RpcProxy
from tests.settlement.bench import GWEI, RULES, Bench, open_bench


@pytest.mark.asyncio
class TestADepositThatDoesNotPay:
    async def test_is_a_debt_and_costs_no_gas(self, bench: Bench) -> None:
        user = bench.user(plm=0)
        settler = await bench.recovered(bench.settler())
        nonce = bench.next_nonce()
        bench.uses(user, 1000)

        await bench.settle(settler, turns=4)

        assert bench.next_nonce() == nonce
        assert bench.credit(user) == {"cum": 1000, "debt": 1}

    async def test_is_taken_as_far_as_it_goes(self, bench: Bench) -> None:
        user = bench.user(plm=0.0004)
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 1000)

        await bench.settle(settler, turns=6)

        assert bench.debits(user) == [400]
        assert bench.credit(user) == {"cum": 1000, "settled": 400, "inflight": 0, "debt": 1}

    async def test_ends_the_debt_when_it_is_filled_up(self, bench: Bench) -> None:
        user = bench.user(plm=0.0004)
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 1000)
        await bench.settle(settler, turns=6)

        bench.pays_in(user, 1)
        await bench.settle(settler, turns=10)

        assert bench.debits(user) == [400, 600]
        assert bench.credit(user) == {"cum": 1000, "settled": 1000, "inflight": 0}

    async def test_that_is_withdrawn_under_way_is_outstanding_again(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 1000)
        bench.automine(on=False)
        await settler.tick()
        (nonce,) = bench.open()
        bench.drop(bench.attempts(nonce)[0]["hash"])
        bench.automine(on=True)
        bench.takes_out(user, 150)

        await bench.settle(settler, turns=5)

        assert bench.debits(user) == []
        assert bench.credit(user) == {"cum": 1000, "settled": 0, "inflight": 0, "debt": 1}
        assert bench.outstanding() == [user.address.lower()]
        assert "refused to debit 1000 tokens" in caplog.text
        nonce = bench.next_nonce()
        await bench.settle(settler, turns=5)
        assert bench.next_nonce() == nonce  # one failed transaction, not one each minute


@pytest.mark.asyncio
class TestTheContract:
    async def test_of_another_gateway_is_left_alone_until_it_is_ours(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.chain.transact_at(bench.contract, "setGateway", TREASURY)
        bench.uses(user, 10)
        nonce = bench.next_nonce()
        bench.clock.advance(61)

        await settler.tick()

        assert bench.status()["state"] == "wrong gateway"
        assert [record.levelno for record in caplog.records if "wrong gateway" in record.getMessage()] == [
            logging.ERROR
        ]
        assert (bench.open(), bench.next_nonce()) == ([], nonce)
        bench.chain.transact_at(bench.contract, "setGateway", bench.key.address)
        await settler.tick()
        assert bench.debits(user) == []  # it is looked at once a minute
        bench.clock.advance(61)
        await bench.settle(settler)
        assert bench.debits(user) == [10]

    async def test_that_is_not_there_is_said_and_costs_no_gas(
        self, bench: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench.contract, real = TREASURY, bench.contract
        settler, count = bench.settler(), bench.chain.rpc("eth_getTransactionCount", bench.key.address, "latest")
        for _ in range(3):
            await settler.tick()
            bench.clock.advance(61)
            bench.mine(3)

        assert bench.status()["state"] == "no contract"
        assert bench.chain.rpc("eth_getTransactionCount", bench.key.address, "pending") == count
        lines = [record.getMessage() for record in caplog.records if "INFERENCE_PAYMENT_ADDRESS" in record.getMessage()]
        assert lines == [f"INFERENCE_PAYMENT_ADDRESS: there is no contract at {TREASURY}"]
        bench.contract = real

    async def test_that_changes_its_gateway_between_two_looks_costs_no_gas(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.chain.transact_at(bench.contract, "setGateway", TREASURY)
        bench.uses(user, 10)
        nonce = bench.next_nonce()

        await settler.tick()

        assert (bench.status()["state"], bench.next_nonce()) == ("wrong gateway", nonce)
        assert "debt" not in bench.credit(user)

    async def test_with_a_treasury_that_takes_nothing_stops_all_settling(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.chain.transact_at(bench.contract, "setTreasury", bench.contract)  # it has no receive()
        bench.uses(user, 10)

        await settler.tick()
        assert bench.status()["state"] == "stopped: the treasury does not take the money"
        assert "debt" not in bench.credit(user)

        bench.chain.transact_at(bench.contract, "setTreasury", TREASURY)
        bench.clock.advance(61)
        await bench.settle(settler)
        assert bench.debits(user) == [10]

    async def test_may_change_its_price_meanwhile(self, bench: Bench) -> None:
        user = bench.user(plm=1)
        settler = await bench.recovered(bench.settler())
        bench.uses(user, 1000)
        bench.chain.transact_at(bench.contract, "setCostPer1000Tokens", 10**19)  # 0.01 PLM for each token

        await bench.settle(settler, turns=6)

        assert bench.debits(user) == [100]
        assert bench.settlements(user)[0]["cost_wei"] == str(10**18)


@pytest.mark.asyncio
class TestMoneyForGas:
    async def test_that_is_missing_is_told_and_waited_for(self, bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.chain.fund(bench.key.address, 0)
        bench.uses(user, 10)

        await settler.tick()

        assert bench.status()["state"] == "stopped: no money for gas"
        assert "no money for gas" in caplog.text
        assert bench.open() == []
        bench.chain.fund(bench.key.address, 1)
        await bench.settle(settler)
        assert bench.debits(user) == [10]

    async def test_that_is_missing_for_what_is_under_way_is_told(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler())
        bench.automine(on=False)
        bench.uses(user, 10)
        await settler.tick()
        bench.chain.fund(bench.key.address, 0)

        await settler.tick()

        assert bench.status()["state"] == "stopped: no money for gas"

    async def test_is_missing_from_the_first_start_on(self, bench: Bench) -> None:
        bench.chain.fund(bench.key.address, 0)
        settler = bench.settler()
        await settler.tick()
        assert bench.status()["state"] == "stopped: no money for gas"

        bench.chain.fund(bench.key.address, 1)

        await bench.recovered(settler)

    async def test_is_not_spent_while_the_chain_is_too_dear(self, bench: Bench) -> None:
        user = bench.user()
        settler = await bench.recovered(bench.settler(replace(RULES, max_fee=2 * GWEI)))
        bench.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(3 * GWEI))
        bench.mine(1)
        bench.uses(user, 10)

        await settler.tick()

        assert bench.status()["state"] == "stopped: the chain asks for more than SETTLEMENT_MAX_FEE_GWEI"
        assert bench.open() == []
        bench.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI // 10))
        bench.mine(1)
        await bench.settle(settler)
        assert bench.debits(user) == [10]


@pytest.mark.asyncio
class TestTheChain:
    async def test_of_another_id_is_not_settled_on(self, bench: Bench, redis_url: str) -> None:
        with RpcProxy(bench.chain.url) as rpc:
            async with open_bench(bench.chain, redis_url, rpc.url) as other:
                user = other.user()
                settler = await other.recovered(other.settler())
                rpc.fault = Fault.OTHER_CHAIN
                other.uses(user, 10)

                await settler.tick()

                assert other.status()["state"] == "wrong chain"
                assert rpc.calls["eth_sendRawTransaction"] == 17  # of the first start
                rpc.fault = None
                await other.settle(settler)
                assert other.debits(user) == [10]

    async def test_that_is_away_is_waited_for(self, bench: Bench, redis_url: str) -> None:
        with RpcProxy(bench.chain.url) as rpc:
            async with open_bench(bench.chain, redis_url, rpc.url) as other:
                user = other.user()
                settler = await other.recovered(other.settler())
                rpc.fault = Fault.BAD_GATEWAY
                other.uses(user, 10)

                await settler.tick()
                assert other.status()["state"] == "chain unavailable"

                rpc.fault = None
                await other.settle(settler)
                assert other.debits(user) == [10]


@pytest.mark.asyncio
class TestWithoutAKey:
    async def test_it_says_so_and_what_is_outstanding(self, bench: Bench) -> None:
        user = bench.user()
        bench.uses(user, 10)

        await Keyless(bench.store, RULES).tick()

        status = bench.status()
        assert (status["state"], status["outstanding"]) == ("stopped: GATEWAY_PRIVATE_KEY is not set", 10)
        assert bench.redis.ttl(redis_keys.SETTLER) > 50
