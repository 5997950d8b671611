"""Idempotency-Key through the whole gateway: at every door, an answer is made and counted once for all workers."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import secrets
import signal
from collections import Counter
from collections.abc import Iterator
from typing import Any, cast

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from redis import Redis

from core import redis_keys
from tests.e2e.client import JSON, Answer, bearer, call, events, eventually_none_work, streamed
from tests.e2e.conftest import OPERATOR_KEY, gateway_with
from tests.e2e.network import AGENT, OPENAI, PETALS, Network
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.test_limits import is_ready, redis_of_its_own
from tests.e2e.test_tiers import BLOCKS_S, User
from tests.e2e.wallet import sign_in
from tests.fakes.chain import TestChain
from tests.fakes.redis_proxy import RedisProxy
from tests.fakes.redis_server import RedisServer

INFERENCE = "/api/v1/inference"
PROMPT = {"model": AGENT, "prompt": "hi", "max_tokens": 64}
TURNS: list[ChatCompletionMessageParam] = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": AGENT, "messages": TURNS, "max_tokens": 64}
STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
DOORS = [
    (INFERENCE, PROMPT),
    (f"{INFERENCE}/chat", CHAT),
    (f"{INFERENCE}/stream", PROMPT),
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | STREAMED),
    ("/v1/completions", PROMPT),
    ("/v1/completions", PROMPT | STREAMED),
]
EVERYWHERE = range(8)  # new connections until each worker was surely asked
REPLAYED = "idempotency-replayed"


def new_key() -> str:
    """A key that nobody has used."""
    return secrets.token_hex(8)


def ask(url: str, path: str, body: Any, token: str, key: str) -> Answer:
    """A request under a key."""
    headers = JSON | bearer(token) | {"Idempotency-Key": key}
    return call(url, "POST", path, headers=headers, body=json.dumps(body))


def left(url: str, token: str) -> int:
    """How many requests the caller's window still holds."""
    limit: dict[str, int] = call(url, "GET", "/api/v1/auth/me", headers=bearer(token)).json()["rate_limit"]
    return limit["limit"] - limit["used"]


class TestEveryDoor:
    @pytest.mark.parametrize(("path", "body"), DOORS)
    def test_gives_the_same_bytes_again_whichever_worker_is_asked(
        self, url: str, token: str, nodes: Network, path: str, body: Any
    ) -> None:
        nodes.agent.answers = (["안녕", "\n", " two\nlines 😀"],)
        key = new_key()
        first = ask(url, path, body, token, key)
        again = [ask(url, path, body, token, key) for _ in EVERYWHERE]

        assert first.status in (200, 201)
        assert REPLAYED not in first.headers
        assert {(answer.status, answer.body) for answer in again} == {(first.status, first.body)}
        assert {answer.headers[REPLAYED] for answer in again} == {"true"}
        assert "ratelimit" not in again[0].headers
        assert len(nodes.agent.generated) == 1
        assert left(url, token) == 9

    @pytest.mark.parametrize(("path", "body"), DOORS)
    def test_refuses_the_key_of_another_request(
        self, url: str, token: str, nodes: Network, path: str, body: Any
    ) -> None:
        key = new_key()
        assert ask(url, path, body, token, key).status in (200, 201)

        refused = ask(url, path, body | {"max_tokens": 63}, token, key)

        assert refused.status == 422
        words = "This Idempotency-Key belongs to another request"
        if path.startswith("/v1"):
            assert refused.json()["error"]["code"] == "idempotency_mismatch"
        else:
            assert refused.json() == {"message": words, "error": "Unprocessable Entity", "statusCode": 422}
        assert len(nodes.agent.generated) == 1

    @pytest.mark.parametrize(("path", "body"), DOORS)
    @pytest.mark.parametrize("key", ["", " ", "two words", "x" * 256, "naïve", "tab\there"])
    def test_refuses_what_is_no_key(self, url: str, token: str, path: str, body: Any, key: str) -> None:
        headers = JSON | bearer(token) | {"Idempotency-Key": key.encode()}

        refused = call(url, "POST", path, headers=headers, body=json.dumps(body))  # type: ignore[arg-type] # bytes as they are

        assert refused.status == 400
        assert b"Idempotency-Key must be 1 to 255 visible ASCII characters" in refused.body

    def test_knows_a_request_in_other_bytes(self, url: str, token: str, nodes: Network) -> None:
        headers = JSON | bearer(token) | {"Idempotency-Key": new_key()}
        bodies = [
            json.dumps(PROMPT),
            json.dumps(PROMPT | {"temperature": 0.7}, indent=2),
            json.dumps(PROMPT)[:-1] + " }",
        ]

        answers = [call(url, "POST", INFERENCE, headers=headers, body=body) for body in bodies]

        assert [answer.headers.get(REPLAYED) for answer in answers] == [None, "true", "true"]

    def test_keeps_one_door_apart_from_another(self, url: str, token: str) -> None:
        key = new_key()
        assert ask(url, INFERENCE, PROMPT, token, key).status == 201

        for path, body in DOORS[1:]:
            assert ask(url, path, body, token, key).status == 422

    def test_takes_any_visible_key_of_up_to_255_characters(self, url: str, token: str) -> None:
        for key in ("!", '"quoted"', "{plumise}:kept:*", "~" * 255):
            assert [ask(url, INFERENCE, PROMPT, token, key).headers.get(REPLAYED) for _ in range(2)] == [None, "true"]


class TestACallersKey:
    def test_is_his_own(self, url: str, token: str, nodes: Network) -> None:
        key, other = new_key(), sign_in(url)
        first = ask(url, INFERENCE, PROMPT, token, key)

        theirs = ask(url, INFERENCE, PROMPT | {"prompt": "mine"}, other, key)

        assert (first.status, theirs.status) == (201, 201)
        assert first.json()["id"] != theirs.json()["id"]

    def test_is_the_operators_own_too(self, url: str, token: str, nodes: Network) -> None:
        key = new_key()
        ask(url, "/v1/completions", PROMPT, OPERATOR_KEY, key)

        assert ask(url, "/v1/completions", PROMPT, OPERATOR_KEY, key).headers[REPLAYED] == "true"
        assert REPLAYED not in ask(url, "/v1/completions", PROMPT, token, key).headers

    def test_opens_nothing_for_one_who_has_signed_out(self, url: str, token: str) -> None:
        key = new_key()
        assert ask(url, INFERENCE, PROMPT, token, key).status == 201
        assert ask(url, "/api/v1/auth/logout", {}, token, key).status == 201

        assert {ask(url, INFERENCE, PROMPT, token, key).status for _ in EVERYWHERE} == {401}

    def test_is_free_after_a_refusal_and_after_a_failure(self, url: str, token: str, nodes: Network) -> None:
        key = new_key()
        assert ask(url, INFERENCE, PROMPT | {"model": "nobody's"}, token, key).status == 400
        assert ask(url, INFERENCE, PROMPT | {"max_tokens": 0}, token, key).status == 400
        nodes.agent.fault = "500"
        assert ask(url, INFERENCE, PROMPT, token, key).status == 503
        assert ask(url, f"{INFERENCE}/stream", PROMPT, token, key).status == 503
        nodes.reset()

        assert REPLAYED not in ask(url, INFERENCE, PROMPT, token, key).headers
        assert left(url, token) == 9

    def test_lets_a_used_up_quota_have_what_was_answered(self, url: str, token: str) -> None:
        key = new_key()
        answers = [ask(url, INFERENCE, PROMPT, token, key)]
        answers += [ask(url, INFERENCE, PROMPT, token, new_key()) for _ in range(10)]

        assert [answer.status for answer in answers] == [201] * 10 + [429]
        assert ask(url, INFERENCE, PROMPT, token, key).body == answers[0].body


class TestAStreamThatEndsEarly:
    def test_is_given_again_with_its_error(self, url: str, token: str, nodes: Network) -> None:
        nodes.agent.fault, nodes.agent.after, nodes.agent.delay_s = "cut-line", 2, 0.15
        key = new_key()
        first = ask(url, f"{INFERENCE}/stream", PROMPT, token, key)
        nodes.reset()

        again = ask(url, f"{INFERENCE}/stream", PROMPT, token, key)

        assert [event.name for event in events(again.body)] == ["message", "message", "error"]
        assert (again.status, again.body, again.headers[REPLAYED]) == (201, first.body, "true")
        assert not nodes.agent.generated

    def test_because_its_client_left_is_given_as_far_as_it_was_made(self, url: str, token: str, nodes: Network) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (["word "] * 100,), 0.05
        headers = JSON | bearer(token) | {"Idempotency-Key": (key := new_key())}
        with streamed(url, "POST", f"{INFERENCE}/stream", headers=headers, body=json.dumps(PROMPT)) as stream:
            stream.read_until(b"id: 2\n")
        eventually_none_work(nodes.agent)
        eventually(lambda: ask(url, f"{INFERENCE}/stream", PROMPT, token, key).status != 409)

        again = ask(url, f"{INFERENCE}/stream", PROMPT, token, key)

        *pieces, end = events(again.body)
        assert again.headers[REPLAYED] == "true"
        assert 2 <= len(pieces) < 100
        assert {event.data for event in pieces} == {"word "}
        assert (end.name, end.data) == ("error", "The answer ends here: its connection was closed at this point.")
        assert len(nodes.agent.generated) == 1


@pytest.mark.asyncio
class TestFiftyAtOnce:
    @pytest.mark.parametrize(("path", "body"), [DOORS[0], DOORS[2], DOORS[4]])
    async def test_are_one_request(self, url: str, token: str, nodes: Network, path: str, body: Any) -> None:
        nodes.agent.delay_s = 0.02
        headers = JSON | bearer(token) | {"Idempotency-Key": new_key()}
        connector = aiohttp.TCPConnector(limit=50)

        async with aiohttp.ClientSession(url, connector=connector, headers=headers) as session:

            async def one() -> tuple[int, str | None, bytes]:
                async with session.post(path, json=body) as answer:
                    return answer.status, answer.headers.get(REPLAYED), await answer.read()

            answers = await asyncio.gather(*(one() for _ in range(50)))

        served = [(replayed, text) for status, replayed, text in answers if status in (200, 201)]
        statuses = Counter(status for status, _, _ in answers)
        assert [replayed for replayed, _ in served].count(None) == 1
        assert len({text for _, text in served}) == 1
        assert statuses[409] + len(served) == 50
        assert statuses[409] > 0
        assert len(nodes.agent.generated) == 1
        assert await asyncio.to_thread(left, url, token) == 9


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """The Redis of `paid`."""
    with redis_of_its_own() as server:
        yield server


@pytest.fixture(scope="module")
def proxy(redis: RedisServer) -> Iterator[RedisProxy]:
    """What stands before it."""
    with RedisProxy(redis.socket) as running:
        yield running


@pytest.fixture(scope="module")
def paid(running_nodes: Network, chain: TestChain, proxy: RedisProxy) -> Iterator[GatewayServer]:
    """A gateway with the payment contract."""
    running_nodes.reset()
    with gateway_with(
        running_nodes.agent.url,
        REDIS_URL=proxy.url,
        INFERENCE_PAYMENT_ADDRESS=chain.contract,
        CHAIN_RPC_URL=chain.url,
        CHAIN_WS_URL=chain.ws_url,
    ) as server:
        yield server


@pytest.fixture
def payer(paid: GatewayServer, chain: TestChain, nodes: Network) -> User:
    """A Pro user who has asked nothing yet."""
    user = User(paid.url, chain)
    chain.deposit(user.account, 150)
    eventually(lambda: user.is_everywhere("pro"), 3 * BLOCKS_S)
    return user


class TestWhatIsPaid:
    def test_is_paid_once_and_the_price_is_told_again(
        self, paid: GatewayServer, payer: User, redis: RedisServer, nodes: Network
    ) -> None:
        key = new_key()
        first, *again = (ask(paid.url, INFERENCE, PROMPT, payer.token, key) for _ in range(5))

        usage = first.json()["usage"]
        assert {answer.status for answer in again} == {201}
        assert all(answer.headers[REPLAYED] == "true" for answer in again)
        assert usage["balance_plm"]
        told = {name: value for name, value in usage.items() if name != "balance_plm"}
        assert all(answer.json()["usage"] == told for answer in again)
        assert charged(redis, payer) == usage["total_tokens"]

    @pytest.mark.asyncio
    async def test_is_paid_once_by_fifty_at_once(
        self, paid: GatewayServer, payer: User, redis: RedisServer, nodes: Network
    ) -> None:
        headers = JSON | bearer(payer.token) | {"Idempotency-Key": new_key()}
        async with aiohttp.ClientSession(paid.url, headers=headers) as session:

            async def one() -> tuple[int, dict[str, Any]]:
                async with session.post(INFERENCE, json=PROMPT) as answer:
                    return answer.status, await answer.json()

            answers = await asyncio.gather(*(one() for _ in range(50)))

        usages = [body["usage"]["total_tokens"] for status, body in answers if status == 201]
        assert {status for status, _ in answers} <= {201, 409}
        assert charged(redis, payer) == usages[0]
        assert len(nodes.agent.generated) == len(set(usages)) == 1

    def test_is_what_a_client_gets_who_left_in_the_middle(
        self, paid: GatewayServer, payer: User, redis: RedisServer, nodes: Network
    ) -> None:
        nodes.agent.answers, nodes.agent.delay_s = ([f"word{n} " for n in range(100)],), 0.05
        headers = JSON | bearer(payer.token) | {"Idempotency-Key": (key := new_key())}
        path, body = "/v1/completions", PROMPT | STREAMED
        with streamed(paid.url, "POST", path, headers=headers, body=json.dumps(body)) as stream:
            stream.read_until(b"word2 ")
        eventually_none_work(nodes.agent)
        eventually(lambda: ask(paid.url, path, body, payer.token, key).status != 409)

        again = ask(paid.url, path, body, payer.token, key)

        words = again.body.count(b"word")
        assert b"client_left" in again.body
        assert 3 <= words < 100
        assert charged(redis, payer) == words + 1  # the prompt is one token

    @pytest.mark.parametrize(
        ("path", "body"),
        [DOORS[0], pytest.param(*DOORS[2], marks=pytest.mark.long), pytest.param(*DOORS[4], marks=pytest.mark.long)],
    )
    def test_is_there_though_the_worker_was_killed_before_the_last_byte(
        self,
        paid: GatewayServer,
        payer: User,
        redis: RedisServer,
        proxy: RedisProxy,
        nodes: Network,
        path: str,
        body: Any,
    ) -> None:
        before = ask(paid.url, path, body, payer.token, new_key())  # Redis knows the scripts now
        tokens, key, workers = charged(redis, payer), new_key(), paid.workers()
        proxy.cut(b'"pieces":[', lambda: kill(workers))
        with pytest.raises((http.client.HTTPException, OSError)):
            ask(paid.url, path, body, payer.token, key)
        eventually(lambda: is_ready(paid), 30)

        again = ask(paid.url, path, body, payer.token, key)

        assert (again.status, again.headers.get(REPLAYED)) == (before.status, "true"), again.body
        assert b"stop" in again.body
        assert len(nodes.agent.generated) == 2
        assert charged(redis, payer) == 2 * tokens > 0


def charged(redis: RedisServer, user: User) -> int:
    """The tokens that a user is charged, ever."""
    with Redis(unix_socket_path=str(redis.socket)) as client:
        return int(cast("bytes", client.hget(redis_keys.credit(user.account.address.lower()), "cum") or 0))


def kill(pids: set[int]) -> None:
    """All of them, at once."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


class TestTheOpenAISdk:
    def test_gets_its_answer_again(self, url: str, token: str, nodes: Network) -> None:
        extra = {"Idempotency-Key": new_key()}
        with OpenAI(api_key=token, base_url=f"{url}/v1", max_retries=0) as client:
            raw = [
                client.chat.completions.with_raw_response.create(model=OPENAI, messages=TURNS, extra_headers=extra)
                for _ in range(2)
            ]

        first, again = (answer.parse() for answer in raw)
        assert [answer.headers.get(REPLAYED) for answer in raw] == [None, "true"]
        assert first == again
        assert len(nodes.openai.generated) == 1

    def test_gets_its_stream_again(self, url: str, token: str, nodes: Network) -> None:
        extra = {"Idempotency-Key": new_key()}
        with OpenAI(api_key=token, base_url=f"{url}/v1", max_retries=0) as client:
            first, again = (
                list(
                    client.chat.completions.create(
                        model=OPENAI,
                        messages=TURNS,
                        stream=True,
                        stream_options={"include_usage": True},
                        extra_headers=extra,
                    )
                )
                for _ in range(2)
            )

        assert first == again
        assert first[-1].usage is not None
        assert len(nodes.openai.generated) == 1

    def test_is_told_of_a_key_that_is_taken(self, url: str, token: str) -> None:
        extra = {"Idempotency-Key": new_key()}
        with OpenAI(api_key=token, base_url=f"{url}/v1", max_retries=0) as client:
            client.completions.create(model=PETALS, prompt="one", extra_headers=extra)
            with pytest.raises(openai.UnprocessableEntityError) as refused:
                client.completions.create(model=PETALS, prompt="two", extra_headers=extra)

        assert (refused.value.code, refused.value.type) == ("idempotency_mismatch", "invalid_request_error")

    @pytest.mark.asyncio
    async def test_waits_for_the_one_that_is_under_way_by_itself(self, url: str, token: str, nodes: Network) -> None:
        nodes.openai.delay_s = 0.2
        extra = {"Idempotency-Key": new_key()}
        async with AsyncOpenAI(api_key=token, base_url=f"{url}/v1", max_retries=5) as client:
            completions = await asyncio.gather(
                *(client.chat.completions.create(model=OPENAI, messages=TURNS, extra_headers=extra) for _ in range(5))
            )

        assert len({completion.id for completion in completions}) == 1
        assert len(nodes.openai.generated) == 1
