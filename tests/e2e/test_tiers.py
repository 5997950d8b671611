"""Paying: the true gateway with all of its processes, and a real chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from eth_account.signers.local import LocalAccount

from core.wallet import checksum
from tests.e2e.client import bearer, call, post
from tests.e2e.conftest import gateway_with
from tests.e2e.network import PETALS, PRO, Network
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.wallet import sign_in
from tests.fakes.chain import CHAIN_ID, PLM, TestChain
from tests.fakes.rpc_proxy import Fault, RpcProxy
from tests.fakes.wallet import Wallet

ROOT = Path(__file__).parent.parent.parent
ALL_WORKERS = range(12)  # new connections until each worker was surely asked
BLOCKS_S = 6.0  # two blocks of the true chain


@pytest.fixture(scope="module")
def rpc(chain: TestChain) -> Iterator[RpcProxy]:
    """The endpoint that the gateway asks."""
    with RpcProxy(chain.url) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def paid(running_nodes: Network, chain: TestChain, rpc: RpcProxy) -> Iterator[GatewayServer]:
    """A gateway with the payment contract, once it hears of payments."""
    with gateway_with(
        running_nodes.petals.url,
        INFERENCE_PAYMENT_ADDRESS=chain.contract,
        CHAIN_RPC_URL=rpc.url,
        CHAIN_WS_URL=chain.ws_url,
    ) as server:
        eventually(lambda: "subscribed to the payment contract" in server.log(), 20)
        yield server


class User:
    """A signed-in wallet with money on the chain."""

    def __init__(self, url: str, chain: TestChain) -> None:
        self.url = url
        self.account: LocalAccount = chain.account()
        self.token = sign_in(url, Wallet(self.account.key))

    def me(self) -> dict[str, Any]:
        """What the gateway says of him."""
        answer = call(self.url, "GET", "/api/v1/auth/me", headers=bearer(self.token))
        assert answer.status == 200, answer.body
        said: dict[str, Any] = answer.json()
        return said

    def is_everywhere(self, tier: str) -> bool:
        """Whether all workers see him so."""
        return all(self.me()["tier"] == tier for _ in ALL_WORKERS)


class TestADeposit:
    def test_makes_pro_within_two_blocks_and_a_withdrawal_ends_it(self, paid: GatewayServer, chain: TestChain) -> None:
        user = User(paid.url, chain)
        assert user.is_everywhere("free")  # and so it stands in every cache

        chain.deposit(user.account, 150)
        eventually(lambda: user.is_everywhere("pro"), BLOCKS_S)
        me = user.me()
        assert (me["tier_source"], me["balance_plm"], me["rate_limit"]) == ("fresh", "150", None)

        chain.withdraw(user.account, 51)
        eventually(lambda: user.is_everywhere("free"), BLOCKS_S)

    def test_of_exactly_the_minimum_ends_with_the_first_debit(self, paid: GatewayServer, chain: TestChain) -> None:
        user = User(paid.url, chain)
        chain.deposit(user.account, 100)
        eventually(lambda: user.is_everywhere("pro"), BLOCKS_S)

        chain.use(user.account.address, 1)
        eventually(lambda: user.is_everywhere("free"), BLOCKS_S)
        assert user.me()["balance_plm"] == "99.999999"

    def test_lifts_the_quota_and_opens_the_pro_models(
        self, paid: GatewayServer, chain: TestChain, nodes: Network
    ) -> None:
        user = User(paid.url, chain)
        asked = {"model": PETALS, "prompt": "hi", "max_tokens": 3000}
        assert "free tier" in post(paid.url, "/api/v1/inference", asked, user.token).json()["message"]
        chain.deposit(user.account, 150)
        eventually(lambda: user.is_everywhere("pro"), BLOCKS_S)

        small = asked | {"max_tokens": 1}
        assert [post(paid.url, "/api/v1/inference", small, user.token).status for _ in range(12)] == [201] * 12
        refused = post(paid.url, "/api/v1/inference", small | {"model": PRO}, user.token)
        assert refused.status == 503  # nobody serves it, but it is not refused for the tier

    def test_is_made_by_the_transaction_that_the_gateway_prepares(self, paid: GatewayServer, chain: TestChain) -> None:
        user = User(paid.url, chain)
        chain.deposit(user.account, 40)
        eventually(lambda: user.me()["balance_plm"] == "40", BLOCKS_S)

        answer = post(paid.url, "/api/v1/payment/deposit", {"amount": "60.5"}, user.token)

        offer = answer.json()
        assert answer.status == 201
        assert (offer["contract"], offer["chain_id"]) == (chain.contract, CHAIN_ID)
        assert (offer["amount_wei"], offer["amount_plm"]) == (str(605 * PLM // 10), "60.5")
        assert (offer["missing_for_pro_plm"], offer["pro_afterwards"]) == ("60", True)
        assert "exactly 100 PLM" in offer["note"]
        assert [entry["name"] for entry in offer["abi"]] == ["deposit"]
        missing: dict[str, Any] = {"to": checksum(chain.contract), "nonce": 1, "gas": 100_000, "gasPrice": 2 * 10**9}
        signed = user.account.sign_transaction(offer["transaction"] | missing)
        chain.rpc("eth_sendRawTransaction", signed.raw_transaction.to_0x_hex())
        eventually(lambda: user.me()["tier"] == "pro", BLOCKS_S)


class TestTheBalance:
    def test_is_exact(self, paid: GatewayServer, chain: TestChain) -> None:
        user = User(paid.url, chain)
        chain.deposit(user.account, 1)
        chain.use(user.account.address, 1)
        eventually(lambda: user.me()["balance_plm"] == "0.999999", BLOCKS_S)

        answer = call(paid.url, "GET", "/api/v1/payment/balance", headers=bearer(user.token))

        assert answer.status == 200
        assert answer.json() == {
            "address": user.account.address.lower(),
            "tier": "free",
            "source": "fresh",
            "balance_wei": str(PLM - 10**12),
            "balance_plm": "0.999999",
            "outstanding_tokens": 0,
            "outstanding_plm": "0",
            "reserved_tokens": 0,
            "reserved_plm": "0",
            "left_wei": str(PLM - 10**12),
            "left_plm": "0.999999",
            "debt": False,
            "cost_per_1000_tokens_wei": str(10**15),
            "cost_per_1000_tokens_plm": "0.001",
        }

    @pytest.mark.parametrize("amount", [None, 1, "0", "-1", "1e3", "0.0000000000000000001", "", [], "9" * 80])
    def test_nothing_but_an_amount_can_be_paid_in(self, paid: GatewayServer, chain: TestChain, amount: object) -> None:
        user = User(paid.url, chain)

        answer = post(paid.url, "/api/v1/payment/deposit", {"amount": amount, "x": 1}, user.token)

        assert answer.status == 400
        assert answer.json()["message"] == [
            "property x should not exist",
            "amount must be a decimal string of PLM greater than 0",
        ]

    @pytest.mark.parametrize(("method", "path"), [("GET", "balance"), ("POST", "deposit")])
    def test_is_nobody_elses(self, paid: GatewayServer, method: str, path: str) -> None:
        assert call(paid.url, method, f"/api/v1/payment/{path}").status == 401


class TestAChainThatIsAway:
    def test_leaves_the_known_as_they_are_and_is_told(
        self, paid: GatewayServer, chain: TestChain, rpc: RpcProxy, nodes: Network
    ) -> None:
        user, stranger = User(paid.url, chain), User(paid.url, chain)
        chain.deposit(user.account, 150)
        eventually(lambda: user.is_everywhere("pro"), BLOCKS_S)
        rpc.fault = Fault.DROP
        try:
            chain.deposit(user.account, 1)  # what is known is fresh no more
            eventually(lambda: user.me()["tier_source"] == "stale", 10)
            assert user.is_everywhere("pro")
            assert stranger.me()["tier_source"] == "unknown"
            asked = {"model": PETALS, "prompt": "hi", "max_tokens": 1}
            assert post(paid.url, "/api/v1/inference", asked, stranger.token).status == 201
            ready = json.loads(paid.get("/ready")[1])
            assert (paid.get("/ready")[0], ready["status"]) == (200, "ready")
            answer = call(paid.url, "GET", "/api/v1/payment/balance", headers=bearer(stranger.token))
            assert (answer.status, answer.json()["error"]) == (503, "Service Unavailable")
        finally:
            rpc.fault = None
        eventually(lambda: all(b'"chain":"ok"' in paid.get("/ready")[1] for _ in ALL_WORKERS), 20)
        eventually(lambda: user.me()["balance_plm"] == "151", 20)
        assert "key-hidden" not in paid.log()

    def test_at_the_start_is_found_later(self, running_nodes: Network, chain: TestChain) -> None:
        with RpcProxy(chain.url) as away:
            pass  # its port is free now
        with gateway_with(
            running_nodes.petals.url,
            INFERENCE_PAYMENT_ADDRESS=chain.contract,
            CHAIN_RPC_URL=away.url,
            CHAIN_WS_URL="ws://127.0.0.1:9",
        ) as server:
            user = User(server.url, chain)
            assert b'"chain":"unavailable"' in server.get("/ready")[1]
            assert user.me()["tier_source"] == "unknown"
            with away:
                eventually(lambda: user.me()["tier_source"] == "fresh", 20)
                eventually(lambda: user.is_everywhere("free"), 20)
                chain.deposit(user.account, 100)  # no subscription: the record of the chain is read
                eventually(lambda: user.is_everywhere("pro"), 3 * BLOCKS_S)
            assert "key-hidden" not in server.log()

    def test_another_chain_is_told(self, running_nodes: Network, chain: TestChain, rpc: RpcProxy) -> None:
        with gateway_with(
            running_nodes.petals.url,
            INFERENCE_PAYMENT_ADDRESS=chain.contract,
            CHAIN_RPC_URL=rpc.url,
            CHAIN_WS_URL=chain.ws_url,
            CHAIN_ID="1",
        ) as server:
            assert b'"chain":"wrong chain id"' in server.get("/ready")[1]
            assert "another chain than CHAIN_ID 1" in server.log()


class TestWithoutAContract:
    def test_everybody_is_free_and_payment_is_off(self, url: str, gateway: GatewayServer, chain: TestChain) -> None:
        user = User(url, chain)
        words = {
            "message": "Payments are not enabled on this gateway",
            "error": "Not Found",
            "statusCode": 404,
        }

        me = user.me()
        assert (me["tier"], me["tier_source"], me["balance_wei"]) == ("free", "off", None)
        balance = call(url, "GET", "/api/v1/payment/balance", headers=bearer(user.token))
        deposit = post(url, "/api/v1/payment/deposit", {"amount": "1"}, user.token)
        assert [(answer.status, answer.json()) for answer in (balance, deposit)] == [(404, words)] * 2
        assert b'"chain":"off"' in gateway.get("/ready")[1]
