"""Paid answers from the user's side: prices, balance, history and receipts, with the true gateway and a real chain."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from examples.verify_receipt import verified
from tests.e2e.client import Answer, bearer, call, events, post, streamed
from tests.e2e.conftest import gateway_with
from tests.e2e.network import PETALS, Network
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.test_tiers import BLOCKS_S, User
from tests.fakes.chain import PLM, TestChain

ASKED = {"model": PETALS, "prompt": "What is a blockchain?", "max_tokens": 16}
NO_TRANSACTION = "0x" + "00" * 32
SETTLED_S = 30.0
OFF = {"message": "Payments are not enabled on this gateway", "error": "Not Found", "statusCode": 404}


@pytest.fixture(scope="module")
def paid(running_nodes: Network, chain: TestChain) -> Iterator[GatewayServer]:
    """A gateway whose wallet may debit."""
    running_nodes.reset()
    with gateway_with(
        running_nodes.petals.url,
        INFERENCE_PAYMENT_ADDRESS=chain.contract,
        CHAIN_RPC_URL=chain.url,
        CHAIN_WS_URL=chain.ws_url,
        GATEWAY_PRIVATE_KEY="0x" + bytes(chain.owner.key).hex(),
        SETTLEMENT_INTERVAL="1s",
        SETTLEMENT_CONFIRMATIONS="1",
    ) as server:
        eventually(lambda: "subscribed to the payment contract" in server.log(), 20)
        yield server


def pro_user(paid: GatewayServer, chain: TestChain) -> User:
    """A user with 150 PLM in the contract."""
    user = User(paid.url, chain)
    chain.deposit(user.account, 150)
    eventually(lambda: user.is_everywhere("pro"), BLOCKS_S)
    return user


@contextmanager
def nothing_mined(chain: TestChain) -> Iterator[None]:
    """Debits are sent, but the chain does not take them yet."""
    chain.rpc("evm_setAutomine", False)
    try:
        yield
    finally:
        chain.rpc("evm_setAutomine", True)
        chain.mine()


def get(user: User, path: str) -> Answer:
    """GET with the user's token."""
    return call(user.url, "GET", path, headers=bearer(user.token))


def ask(user: User) -> dict[str, Any]:
    """A whole answer."""
    answer = post(user.url, "/api/v1/inference", ASKED, user.token)
    assert answer.status == 201, answer.body
    body: dict[str, Any] = answer.json()
    return body


def receipt(user: User, name: str) -> Answer:
    """The receipt of an answer; a busy test machine's settler may need to be asked again."""
    found: list[Answer] = []

    def answered() -> bool:
        found.append(get(user, f"/api/v1/payment/receipts/{name}"))
        return found[-1].status != 503

    eventually(answered, 20)
    return found[-1]


def settled(user: User, chain: TestChain, count: int) -> list[dict[str, Any]]:
    """His settlements, once `count` of his answers are among them."""

    def found() -> list[dict[str, Any]]:
        chain.mine()
        page: dict[str, Any] = get(user, "/api/v1/payment/history").json()
        return list(page["settlements"])

    eventually(lambda: sum(len(each["requests"]) for each in found()) == count, SETTLED_S)
    return found()


@dataclass(frozen=True)
class Story:
    """What a user was told while nothing of his answers was settled, and when all was."""

    user: User
    answers: list[dict[str, Any]]
    usages: list[dict[str, Any]]  # theirs, and those of the other doors
    balances: list[dict[str, Any]]
    receipts: list[Answer]  # of the first answer
    history: list[dict[str, Any]]


@pytest.fixture(scope="module")
def story(paid: GatewayServer, chain: TestChain) -> Story:
    """A user with 150 PLM asks a few times; then the chain goes on."""
    user = pro_user(paid, chain)
    with nothing_mined(chain):
        answers = [ask(user) for _ in range(3)]
        usages = [*(answer["usage"] for answer in answers), *told_elsewhere(user)]
        balances, receipts = [_balance(user)], [receipt(user, answers[0]["id"])]
    history = settled(user, chain, len(usages))
    eventually(lambda: _balance(user)["balance_plm"] != "150")
    balances.append(_balance(user))
    receipts.append(receipt(user, answers[0]["id"]))
    return Story(user, answers, usages, balances, receipts, history)


class TestAPaidAnswer:
    def test_tells_its_price_at_every_door(self, story: Story) -> None:
        left = 150 * PLM
        for usage in story.usages:
            cost = usage["total_tokens"] * 10**12
            left -= cost
            assert _wei(usage["cost_plm"]) == cost > 0
            assert _wei(usage["balance_plm"]) == left
        assert len(story.usages) == 6

    def test_stands_in_the_balance_until_it_is_settled(self, story: Story) -> None:
        before, after = story.balances
        tokens = sum(usage["total_tokens"] for usage in story.usages)

        assert (before["balance_plm"], before["outstanding_tokens"]) == ("150", tokens)
        assert _wei(before["outstanding_plm"]) == tokens * 10**12
        assert (after["outstanding_tokens"], after["reserved_tokens"], after["debt"]) == (0, 0, False)
        assert before["left_plm"] == after["left_plm"] == after["balance_plm"] == story.usages[-1]["balance_plm"]

    def test_costs_a_free_user_nothing(self, paid: GatewayServer, chain: TestChain, nodes: Network) -> None:
        user = User(paid.url, chain)

        answer = ask(user)

        assert answer["usage"].keys() == {"prompt_tokens", "completion_tokens", "total_tokens"}
        assert get(user, f"/api/v1/payment/receipts/{answer['id']}").status == 404
        unsettled = {"tokens": 0, "requests": []}
        assert get(user, "/api/v1/payment/history").json() == {"settlements": [], "next": None, "unsettled": unsettled}


class TestTheHistory:
    def test_names_the_transactions_with_their_answers(self, story: Story, chain: TestChain) -> None:
        names = [name for settlement in story.history for name in settlement["requests"]]
        tokens = sum(usage["total_tokens"] for usage in story.usages)

        assert names[-3:] == [answer["id"] for answer in reversed(story.answers)]
        assert len(names) == len(story.usages)
        assert sum(settlement["tokens"] for settlement in story.history) == tokens
        assert sum(int(settlement["cost_wei"]) for settlement in story.history) == tokens * 10**12
        for settlement in story.history:
            mined = chain.rpc("eth_getTransactionReceipt", settlement["tx"])
            assert (mined["status"], int(mined["blockNumber"], 16)) == ("0x1", settlement["block"])

    @pytest.mark.parametrize(
        ("query", "words"),
        [
            ("limit=0", "limit must not be less than 1"),
            ("limit=101", "limit must not be greater than 100"),
            ("limit=x", "limit must be a number conforming to the specified constraints"),
            ("limit=", "limit must be a number conforming to the specified constraints"),
            ("limit=1.5", "limit must be a number conforming to the specified constraints"),
            ("limit=%D9%A1", "limit must be a number conforming to the specified constraints"),
            ("before=0", "before must not be less than 1"),
            ("before=-1", "before must be a number conforming to the specified constraints"),
            (f"before={2**53}", "before must not be greater than 9007199254740991"),
            ("user=0x12", "property user should not exist"),
        ],
    )
    def test_takes_no_other_page(self, paid: GatewayServer, free: User, query: str, words: str) -> None:
        answer = get(free, f"/api/v1/payment/history?{query}")

        assert (answer.status, answer.json()["error"]) == (400, "Bad Request")
        assert words in answer.json()["message"]

    def test_takes_any_page_in_its_bounds(self, free: User) -> None:
        for query in ("limit=1", "limit=100", "before=1", f"before={2**53 - 1}", "limit=20&before=7"):
            assert get(free, f"/api/v1/payment/history?{query}").status == 200


@pytest.fixture(scope="module")
def free(paid: GatewayServer, chain: TestChain) -> User:
    """A user who has paid nothing."""
    return User(paid.url, chain)


class TestAReceipt:
    def test_proves_what_was_charged_and_then_what_was_debited(self, story: Story, chain: TestChain) -> None:
        answer, usage = story.answers[0], story.answers[0]["usage"]
        paid_by = next(each["tx"] for each in story.history if answer["id"] in each["requests"])

        for given in story.receipts:
            facts = verified(given.body.decode(), chain.contract, chain.owner.address)
            assert facts["requestId"] == answer["id"]
            assert facts["user"] == story.user.account.address.lower()
            assert facts["model"] == PETALS
            assert int(facts["promptTokens"]) == usage["prompt_tokens"]
            assert int(facts["completionTokens"]) == usage["completion_tokens"]
            assert int(facts["tokens"]) == usage["total_tokens"]
            assert int(facts["costWei"]) == usage["total_tokens"] * 10**12
        assert [_message(given)["settlementTx"] for given in story.receipts] == [NO_TRANSACTION, paid_by]

    def test_goes_by_the_id_that_openai_clients_see(self, story: Story, nodes: Network) -> None:
        pro = story.user
        chat = {"model": PETALS, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}
        name = post(pro.url, "/v1/chat/completions", chat, pro.token).json()["id"]

        assert _message(receipt(pro, name))["requestId"] == name.removeprefix("chatcmpl-")

    def test_is_nobody_elses(self, story: Story, free: User) -> None:
        name = story.answers[0]["id"]

        theirs, nobodys = (get(free, f"/api/v1/payment/receipts/{each}") for each in (name, "req_1_" + "0" * 16))

        assert theirs.status == nobodys.status == 404
        assert theirs.json() == {"message": f"Receipt {name} not found", "error": "Not Found", "statusCode": 404}


@pytest.mark.parametrize("path", ["history", "receipts/req_1_0123456789abcdef"])
class TestAStranger:
    def test_is_told_nothing(self, paid: GatewayServer, path: str) -> None:
        assert call(paid.url, "GET", f"/api/v1/payment/{path}").status == 401

    def test_finds_payment_off_where_there_is_no_contract(self, url: str, token: str, path: str) -> None:
        answer = call(url, "GET", f"/api/v1/payment/{path}", headers=bearer(token))

        assert (answer.status, answer.json()) == (404, OFF)


def test_a_deposit_finds_payment_off_whatever_its_body(url: str, token: str) -> None:
    for body in ({}, {"amount": "1"}, {"amount": -1}):
        answer = post(url, "/api/v1/payment/deposit", body, token)

        assert (answer.status, answer.json()) == (404, OFF)


def told_elsewhere(user: User) -> Iterator[dict[str, Any]]:
    """The usage that the doors other than the native whole one tell, one after the other."""
    chat = {"model": PETALS, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 16}
    yield post(user.url, "/v1/chat/completions", chat, user.token).json()["usage"]
    body = json.dumps(ASKED)
    with streamed(user.url, "POST", "/api/v1/inference/stream", headers=_json(user), body=body) as stream:
        yield json.loads(events(stream.read_all())[-1].data)["usage"]
    body = json.dumps(chat | {"stream": True, "stream_options": {"include_usage": True}})
    with streamed(user.url, "POST", "/v1/chat/completions", headers=_json(user), body=body) as stream:
        yield json.loads(events(stream.read_all())[-2].data)["usage"]


def _balance(user: User) -> dict[str, Any]:
    body: dict[str, Any] = get(user, "/api/v1/payment/balance").json()
    return body


def _json(user: User) -> dict[str, str]:
    return {"Content-Type": "application/json"} | bearer(user.token)


def _message(receipt: Answer) -> dict[str, Any]:
    assert receipt.status == 200, receipt.body
    message: dict[str, Any] = receipt.json()["typed_data"]["message"]
    return message


def _wei(amount: str) -> int:
    whole, _, rest = amount.partition(".")
    return int(whole) * PLM + int(rest.ljust(18, "0"))
