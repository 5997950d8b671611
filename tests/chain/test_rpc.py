"""The client of the chain: what a bad endpoint comes to, and that it heals."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import pytest

from bench.ports import free_port
from core.chain.amounts import plm, wei
from core.chain.chain import Chain, ChainState, open_chain
from core.chain.payment_contract import PaymentContract
from core.errors import ChainUnavailable
from tests.fakes.chain import CHAIN_ID, PLM, TestChain
from tests.fakes.rpc_proxy import Fault, RpcProxy


@pytest.fixture
def rpc(chain: TestChain) -> Iterator[RpcProxy]:
    """An endpoint before the chain."""
    with RpcProxy(chain.url) as proxy:
        yield proxy


async def until(chain: Chain, state: ChainState) -> None:
    """Waits until the chain is seen so."""
    async with asyncio.timeout(10):
        while chain.state is not state:
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
class TestReading:
    async def test_reads_the_contract_with_one_request(self, chain: TestChain, rpc: RpcProxy) -> None:
        user = chain.account()
        chain.deposit(user, 120)
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            contract = PaymentContract(opened, chain.contract)
            credit = await contract.credit(user.address.lower())
            assert rpc.calls == {"eth_chainId": 1, "eth_call": 1}
            terms, gateway = await contract.terms(), await contract.gateway()

        assert (credit.balance, credit.used, credit.is_pro) == (120 * PLM, 0, True)
        assert credit.last_deposit > 0
        assert (terms.cost_per_1000_tokens, terms.pro_minimum) == (10**15, 100 * PLM)
        assert gateway == chain.owner.address.lower()

    async def test_an_address_without_a_contract_is_no_answer(self, chain: TestChain) -> None:
        async with open_chain(chain.url, CHAIN_ID) as opened:
            with pytest.raises(ChainUnavailable):
                await PaymentContract(opened, "0x" + "9" * 40).credit("0x" + "1" * 40)

    async def test_asks_eight_things_at_once_at_most(self, chain: TestChain, rpc: RpcProxy) -> None:
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            rpc.delay_s = 0.02
            contract = PaymentContract(opened, chain.contract)
            await asyncio.gather(*(contract.credit(f"0x{number:040x}") for number in range(60)))

        assert 1 < rpc.busiest <= 8


@pytest.mark.asyncio
class TestFaults:
    @pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in (Fault.OTHER_CHAIN, Fault.HANG)])
    async def test_are_one_error_that_tells_no_secret(
        self, chain: TestChain, rpc: RpcProxy, fault: Fault, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            rpc.fault = fault
            with caplog.at_level(logging.DEBUG, "core"), pytest.raises(ChainUnavailable) as refused:
                await PaymentContract(opened, chain.contract).credit("0x" + "1" * 40)

        assert "hidden" not in repr(refused.value) + caplog.text
        assert "Traceback" not in caplog.text

    async def test_nobody_waits_for_an_endpoint_that_is_known_to_be_away(self, chain: TestChain, rpc: RpcProxy) -> None:
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            rpc.fault = Fault.HANG
            contract = PaymentContract(opened, chain.contract)
            began = time.monotonic()
            with pytest.raises(ChainUnavailable):
                await contract.credit("0x" + "1" * 40)
            waited, asked = time.monotonic() - began, rpc.calls["eth_call"]
            for _ in range(50):
                with pytest.raises(ChainUnavailable):
                    await contract.credit("0x" + "1" * 40)

            assert waited > 2.5
            assert rpc.calls["eth_call"] == asked

    async def test_one_call_that_is_refused_keeps_no_other_from_it(self, chain: TestChain, rpc: RpcProxy) -> None:
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            with pytest.raises(ChainUnavailable):
                await opened.request("no_such_method")

            assert await opened.block_number() >= 0

    async def test_it_heals_by_itself(self, chain: TestChain, rpc: RpcProxy) -> None:
        rpc.fault = Fault.BAD_GATEWAY
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            assert opened.state is ChainState.UNAVAILABLE
            rpc.fault = None
            await until(opened, ChainState.OK)

            assert await opened.block_number() >= 0

    async def test_one_that_is_away_at_the_start_is_told_with_why(self, caplog: pytest.LogCaptureFixture) -> None:
        async with open_chain(f"http://127.0.0.1:{free_port()}/key-hidden", CHAIN_ID) as opened:
            await opened.check()

        assert [record.getMessage() for record in caplog.records] == [
            "CHAIN_RPC_URL: the chain's endpoint is not available: no connection"
        ]

    async def test_another_chain_is_told_loudly_and_not_used(
        self, chain: TestChain, rpc: RpcProxy, caplog: pytest.LogCaptureFixture
    ) -> None:
        rpc.fault = Fault.OTHER_CHAIN
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            assert opened.state is ChainState.WRONG_CHAIN
            with pytest.raises(ChainUnavailable):
                await PaymentContract(opened, chain.contract).credit("0x" + "1" * 40)
            assert rpc.calls["eth_call"] == 0
            rpc.fault = None
            await until(opened, ChainState.OK)

        errors = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert len(errors) == 1
        assert "CHAIN_ID" in errors[0].getMessage()
        assert "hidden" not in caplog.text


class TestAmounts:
    @pytest.mark.parametrize(
        ("text", "amount"),
        [
            ("0", 0),
            ("1", PLM),
            ("1.5", 15 * 10**17),
            ("0.000000000000000001", 1),
            ("100.000000000000000001", 10**20 + 1),
        ],
    )
    def test_are_exact_both_ways(self, text: str, amount: int) -> None:
        assert (wei(text), plm(amount)) == (amount, text)

    @pytest.mark.parametrize(
        "text", ["", ".5", "1.", "-1", "+1", "1e3", "1,5", " 1", "1_0", "٣", "0.0000000000000000001", "9" * 60, "NaN"]
    )
    def test_nothing_else_is_one(self, text: str) -> None:
        assert wei(text) is None

    def test_zeros_that_say_nothing_are_left_out(self) -> None:
        assert [plm(wei(text) or 0) for text in ("007.50", "10.0", "0.0")] == ["7.5", "10", "0"]
