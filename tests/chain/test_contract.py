"""The payment contract on a real chain: tiers, prices, refusals, events, and that its artefact is its source."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from eth_utils.crypto import keccak

from tests.fakes.chain import PAYMENT, PLM, TREASURY, WALLETS, Reverted, TestChain

CONTRACTS = Path(__file__).parent.parent.parent / "contracts"
SELECTORS = {
    "deposit()": "d0e30db0", "withdraw(uint256)": "2e1a7d4d", "useCredits(address,uint256)": "26691b6e",
    "getUserTier(address)": "e4d2620e", "getUserBalance(address)": "47734892", "isProTier(address)": "90ce8c5e",
    "getUserCredit(address)": "dad6f0dc", "userCredits(address)": "20babb92", "gateway()": "116191b6",
    "treasury()": "61d027b3", "costPer1000Tokens()": "f6dd5e0f", "PRO_TIER_MINIMUM()": "46a9d5c2",
    "owner()": "8da5cb5b", "setGateway(address)": "90646b4a",
}  # fmt: skip
EVENTS = {
    "Deposited": "73a19dd210f1a7f902193214c0ee91dd35ee5b4d920cba8d519eca65a7b488ca",
    "CreditUsed": "499f00e2b2ecaae27836a8b7b6a8ee8039d6aeacf3ace932ee774017643d7e07",
    "Withdrawn": "7084f5476618d8e60b11ef0d7d3f06914655adb8793e28ff7f018d4c76d505d5",
    "TierChanged": "da8f799db4ea20d174d3b033ccc543d81f677f16dc5cb86a10122948881922e4",
    "GatewayUpdated": "68e84423772dadc3e4047f8b5bd221ddb02dc67796e7852533fd976947d86c51",
    "CostUpdated": "09dec0a03ec247fc6eb57462f0c95194f19a7126f4a1dcd0468afc039dd629c7",
    "TreasuryUpdated": "4ab5be82436d353e61ca18726e984e561f5c1cc7c6d38b29d2553c790434705a",
}


def events(receipt: dict[str, object]) -> list[str]:
    names = {"0x" + topic: name for name, topic in EVENTS.items()}
    logs = receipt["logs"]
    assert isinstance(logs, list)
    return [names[log["topics"][0]] for log in logs]


class TestInterface:
    def test_has_the_selectors_and_topics_that_clients_know(self) -> None:
        signatures = {
            f"{entry['name']}({','.join(given['type'] for given in entry['inputs'])})": entry["type"]
            for entry in PAYMENT["abi"]
            if "name" in entry
        }
        found = {text: keccak(text=text).hex() for text in signatures}

        assert {text: found[text][:8] for text in SELECTORS} == SELECTORS
        assert set(EVENTS.values()) <= set(found.values())

    @pytest.mark.skipif(not (CONTRACTS / "node_modules/solc").exists(), reason="make setup installs solc")
    def test_the_artefacts_are_what_the_sources_compile_to(self) -> None:
        node = Path(sys.executable).parent / "node"
        printed = subprocess.run([node, "build.mjs", "--print"], cwd=CONTRACTS, check=True, capture_output=True).stdout

        for artefact, content in json.loads(printed).items():
            assert json.loads((CONTRACTS / artefact).read_text()) == content, artefact


class TestUsers:
    def test_a_hundred_plm_make_a_user_pro(self, chain: TestChain) -> None:
        user = chain.account()

        almost = chain.deposit(user, 99)
        enough = chain.deposit(user, 1)

        assert (events(almost), events(enough)) == (["Deposited"], ["TierChanged", "Deposited"])
        assert chain.read("getUserTier", user.address) == 1
        assert chain.read("isProTier", user.address) is True

    def test_exactly_a_hundred_fall_to_free_with_the_first_token(self, chain: TestChain) -> None:
        user = chain.account()
        chain.deposit(user, 100)

        receipt = chain.use(user.address, 1)

        balance, used, _, tier = chain.read("getUserCredit", user.address)
        assert events(receipt) == ["TierChanged", "CreditUsed"]
        assert (balance, used, tier) == (100 * PLM - 10**12, 10**12, 0)

    def test_a_withdrawal_below_the_minimum_ends_pro(self, chain: TestChain) -> None:
        user = chain.account()
        chain.deposit(user, 150)

        assert events(chain.withdraw(user, 50)) == ["Withdrawn"]
        assert events(chain.withdraw(user, 1)) == ["TierChanged", "Withdrawn"]
        assert chain.read("getUserBalance", user.address) == 99 * PLM

    def test_refuses_in_the_known_words(self, chain: TestChain) -> None:
        user = chain.account()
        with pytest.raises(Reverted, match="Zero deposit"):
            chain.transact(user, "deposit", value=0)
        with pytest.raises(Reverted, match="Zero amount"):
            chain.withdraw(user, 0)
        with pytest.raises(Reverted, match="Insufficient balance"):
            chain.withdraw(user, 1)
        with pytest.raises(Reverted):
            chain.send(user, chain.contract, "0x", PLM)


class TestTheGateway:
    def test_pays_the_treasury_at_once(self, chain: TestChain) -> None:
        user, before = chain.account(), int(chain.rpc("eth_getBalance", TREASURY, "latest"), 16)
        chain.deposit(user, 1)

        chain.use(user.address, 5000)

        assert int(chain.rpc("eth_getBalance", TREASURY, "latest"), 16) - before == 5 * 10**15

    def test_is_refused_in_the_known_words(self, chain: TestChain) -> None:
        user = chain.account()
        chain.deposit(user, 1)
        with pytest.raises(Reverted, match="Only gateway"):
            chain.transact(user, "useCredits", user.address, 1)
        with pytest.raises(Reverted, match="Zero tokens"):
            chain.use(user.address, 0)
        with pytest.raises(Reverted, match="Insufficient balance"):
            chain.use(user.address, 10**6 + 1)
        assert chain.read("getUserBalance", user.address) == PLM

    def test_a_price_that_does_not_divide_is_rounded_down(self, chain: TestChain) -> None:
        user = chain.account()
        chain.deposit(user, 1)
        chain.transact(chain.owner, "setCostPer1000Tokens", 10**15 + 1)
        try:
            chain.use(user.address, 1)
        finally:
            chain.transact(chain.owner, "setCostPer1000Tokens", 10**15)

        assert chain.read("getUserCredit", user.address)[1] == 10**12


class TestTheOwner:
    def test_only_the_owner_changes_the_terms(self, chain: TestChain) -> None:
        user = chain.account()
        for function, value in (
            ("setGateway", user.address),
            ("setTreasury", user.address),
            ("setCostPer1000Tokens", 10**15),
        ):
            with pytest.raises(Reverted, match=r"custom error|0x118cdaa7|Ownable"):
                chain.transact(user, function, value)

    def test_refuses_in_the_known_words(self, chain: TestChain) -> None:
        nobody = "0x" + "0" * 40
        with pytest.raises(Reverted, match="Invalid gateway"):
            chain.transact(chain.owner, "setGateway", nobody)
        with pytest.raises(Reverted, match="Invalid treasury"):
            chain.transact(chain.owner, "setTreasury", nobody)
        with pytest.raises(Reverted, match="Cost too low"):
            chain.transact(chain.owner, "setCostPer1000Tokens", 10**14 - 1)

    def test_a_treasury_that_takes_nothing_stops_the_debit(self, chain: TestChain) -> None:
        user, closed = chain.account(), chain.deploy(WALLETS["ClosedTreasury"])
        chain.deposit(user, 1)
        chain.transact(chain.owner, "setTreasury", closed)
        try:
            with pytest.raises(Reverted, match="Treasury transfer failed"):
                chain.use(user.address, 1)
        finally:
            chain.transact(chain.owner, "setTreasury", TREASURY)
        assert chain.read("getUserBalance", user.address) == PLM
