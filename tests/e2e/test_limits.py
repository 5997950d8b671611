"""What all workers share, under many hands at once: the window, the nonces, the logouts, and a Redis that goes away."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import cast

import aiohttp
import pytest
from redis import Redis

from core import redis_keys
from tests.e2e.client import JSON, Answer, bearer, call, post
from tests.e2e.conftest import gateway_with
from tests.e2e.network import AGENT, PETALS, PRO, Network
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.wallet import ask_nonce, new_wallet, sign_in
from tests.fakes.node_server import NodeServer
from tests.fakes.redis_server import RedisServer
from tests.fakes.wallet import Wallet

INFERENCE, NONCE, VERIFY, ME = "/api/v1/inference", "/api/v1/auth/nonce", "/api/v1/auth/verify", "/api/v1/auth/me"
GOOD = {"model": PETALS, "prompt": "hi", "max_tokens": 4}


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    """The Redis of `petals_only`."""
    with redis_of_its_own() as server:
        yield server


@pytest.fixture(scope="module")
def petals_only(running_nodes: Network, redis: RedisServer) -> Iterator[GatewayServer]:
    """A gateway with one node and a Redis of its own."""
    running_nodes.reset()
    with gateway_of(running_nodes.petals, redis) as server:
        yield server


async def post_at_once(
    url: str, path: str, body: object, count: int, token: str | None = None, connections: int = 50
) -> list[Answer]:
    """The same request so many times, over so many connections, which both workers share."""
    connector = aiohttp.TCPConnector(limit=connections)

    async with aiohttp.ClientSession(url, connector=connector, headers=JSON | bearer(token)) as session:

        async def one() -> Answer:
            async with session.post(path, json=body) as answer:
                found = {name.lower(): value for name, value in answer.headers.items()}
                return Answer(answer.status, found, await answer.read())

        return await asyncio.gather(*(one() for _ in range(count)))


@pytest.mark.asyncio
class TestTheWindow:
    async def test_lets_exactly_ten_of_two_hundred_in(self, url: str, token: str, nodes: Network) -> None:
        answers = await post_at_once(url, INFERENCE, GOOD, 200, token, connections=200)

        assert Counter(answer.status for answer in answers) == {201: 10, 429: 190}
        assert len(nodes.petals.generated) == 10
        for answer in answers:
            limited = answer.status == 429
            assert answer.headers["ratelimit-policy"] == '"free";q=10;w=3600'
            assert answer.headers["x-ratelimit-limit-requests"] == "10"
            assert answer.headers["ratelimit"].startswith('"free";r=')
            assert (answer.headers["ratelimit"].split(";")[1] == "r=0") or not limited
            assert ("retry-after" in answer.headers) == limited
        limited_one = next(answer for answer in answers if answer.status == 429)
        assert 3590 <= int(limited_one.headers["retry-after"]) <= 3600
        assert limited_one.json()["details"].keys() == {"used", "limit", "resetAt"}

    async def test_counts_what_each_answer_leaves(self, url: str, token: str) -> None:
        answers = await post_at_once(url, INFERENCE, GOOD, 10, token, connections=10)

        left = sorted(int(answer.headers["x-ratelimit-remaining-requests"]) for answer in answers)
        assert left == list(range(10))

    async def test_holds_streams_and_whole_answers_of_all_doors(self, url: str, token: str) -> None:
        chat = {"model": AGENT, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
        doors = [(INFERENCE, GOOD), (f"{INFERENCE}/stream", GOOD), ("/v1/chat/completions", chat)]
        doors.append(("/v1/chat/completions", {**chat, "stream": True}))

        answers = await asyncio.gather(*(post_at_once(url, path, body, 10, token, 10) for path, body in doors))

        assert sum(answer.status < 300 for of_door in answers for answer in of_door) == 10
        assert sum(answer.status == 429 for of_door in answers for answer in of_door) == 30

    async def test_is_each_wallets_own(self, url: str, token: str) -> None:
        await post_at_once(url, INFERENCE, GOOD, 10, token)

        assert post(url, INFERENCE, GOOD, token).status == 429
        assert post(url, INFERENCE, GOOD, sign_in(url)).status == 201


class TestWhatDoesNotCount:
    def test_is_a_refused_request(self, url: str, token: str) -> None:
        bad = [{}, {**GOOD, "max_tokens": 0}, {**GOOD, "max_tokens": 4000}, {**GOOD, "model": "x"}]
        bad += [{**GOOD, "model": PRO}, {**GOOD, "n": 1}]
        for body in bad * 3:
            assert post(url, INFERENCE, body, token).status == 400

        assert remaining(post(url, INFERENCE, GOOD, token)) == 9

    def test_is_a_request_that_the_node_refuses(self, url: str, token: str, nodes: Network) -> None:
        nodes.petals.fault = "422"
        for path in (INFERENCE, f"{INFERENCE}/stream") * 6:
            assert post(url, path, GOOD, token).status == 400
        nodes.reset()

        assert remaining(post(url, INFERENCE, GOOD, token)) == 9

    def test_is_a_request_that_fails(self, url: str, token: str, nodes: Network) -> None:
        nodes.petals.fault = "503"
        for path in (INFERENCE, f"{INFERENCE}/stream") * 6:
            assert post(url, path, GOOD, token).status == 503
        nodes.reset()

        assert remaining(post(url, INFERENCE, GOOD, token)) == 9

    def test_is_one_that_nobody_serves(self, petals_only: GatewayServer) -> None:
        token = sign_in(petals_only.url)
        for _ in range(12):
            answer = post(petals_only.url, INFERENCE, {**GOOD, "model": AGENT}, token)
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")

        assert remaining(post(petals_only.url, INFERENCE, GOOD, token)) == 9

    def test_but_a_stream_that_broke_in_its_middle_counts(self, url: str, token: str, nodes: Network) -> None:
        nodes.agent.fault, nodes.agent.after, nodes.agent.delay_s = "cut-line", 2, 0.15
        assert b"event: error" in post(url, f"{INFERENCE}/stream", {**GOOD, "model": AGENT}, token).body
        nodes.reset()

        assert remaining(post(url, INFERENCE, GOOD, token)) == 8


@pytest.mark.long
class TestAKilledWorker:
    def test_costs_its_user_nothing_once_the_lease_is_over(self, nodes: Network) -> None:
        with redis_of_its_own() as redis, gateway_of(nodes.agent, redis, NODE_TOTAL_TIMEOUT="5s") as gateway:
            token, body = sign_in(gateway.url), {**GOOD, "model": AGENT}
            nodes.agent.fault = "stall-first"
            asyncio.run(kill_in_the_middle(gateway, nodes.agent, body, token))
            nodes.reset()
            assert remaining(post(gateway.url, INFERENCE, body, token)) == 10 - 3 - 1

            # The lease is the total timeout and a minute; the reaper comes every ten seconds.
            eventually(lambda: open_requests(redis) == 0, within_s=100)
            assert remaining(post(gateway.url, INFERENCE, body, token)) == 10 - 2


@pytest.mark.asyncio
class TestSignIn:
    async def test_takes_one_nonce_once_in_a_thousand_tries(self, url: str) -> None:
        wallet = new_wallet()
        signature = wallet.sign(ask_nonce(url, wallet)["message"])
        body = {"address": wallet.checksummed, "signature": signature}

        answers = await post_at_once(url, VERIFY, body, 1000)

        assert Counter(answer.status for answer in answers) == {201: 1, 401: 999}
        refused = {answer.json()["message"] for answer in answers if answer.status == 401}
        assert refused <= {"Nonce not found or expired", "Invalid signature"}

    async def test_of_a_victim_works_while_a_stranger_floods_his_address(self, url: str) -> None:
        wallet, stranger = new_wallet(), new_wallet()
        mine = ask_nonce(url, wallet)
        junk = {"address": wallet.checksummed, "signature": stranger.sign(mine["message"])}

        await post_at_once(url, NONCE, {"address": wallet.checksummed}, 100)
        refused = await post_at_once(url, VERIFY, junk, 100)

        assert {answer.status for answer in refused} == {401}
        assert sign_in(url, wallet)

    async def test_out_counts_for_both_workers_at_once(self, url: str, token: str) -> None:
        assert post(url, "/api/v1/auth/logout", {}, token).status == 201

        answers = await post_at_once(url, INFERENCE, GOOD, 20, token, connections=20)
        assert {answer.status for answer in answers} == {401}
        assert {call(url, "GET", ME, headers=bearer(token)).status for _ in range(12)} == {401}


class TestARedisThatGoesAway:
    def test_is_answered_with_503_until_it_is_back(self, redis: RedisServer, petals_only: GatewayServer) -> None:
        wallet = new_wallet()
        token = sign_in(petals_only.url, wallet)
        redis.stop()
        try:
            assert_closed(petals_only, token)
        finally:
            redis.start()
        assert_heals(petals_only, wallet)

    def test_is_answered_so_too_when_it_only_hangs(self, redis: RedisServer, petals_only: GatewayServer) -> None:
        wallet = new_wallet()
        token = sign_in(petals_only.url, wallet)
        assert redis.process is not None
        redis.process.send_signal(signal.SIGSTOP)
        try:
            assert_closed(petals_only, token)
        finally:
            redis.process.send_signal(signal.SIGCONT)
        assert_heals(petals_only, wallet)


def remaining(answer: Answer) -> int:
    """What is left of the window after an answer."""
    assert answer.status == 201, answer.body
    return int(answer.headers["x-ratelimit-remaining-requests"])


@contextmanager
def redis_of_its_own() -> Iterator[RedisServer]:
    """A Redis that a test may kill."""
    with tempfile.TemporaryDirectory(prefix="plm-") as folder:
        server = RedisServer(Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def gateway_of(node: NodeServer, redis: RedisServer, **env: str) -> AbstractContextManager[GatewayServer]:
    """A gateway with one node and this Redis."""
    return gateway_with(node.url, REDIS_URL=redis.url, **env)


def open_requests(redis: RedisServer) -> int:
    """How many requests wait to be told how they ended."""
    with Redis(unix_socket_path=str(redis.socket)) as client:
        return int(cast("int", client.zcard(redis_keys.OPEN_REQUESTS)))


async def kill_in_the_middle(gateway: GatewayServer, node: NodeServer, body: object, token: str) -> None:
    """Sends three requests, kills every worker while they are served, and waits for the next ones."""
    async with aiohttp.ClientSession(gateway.url, headers=JSON | bearer(token)) as session:
        requests = [asyncio.ensure_future(session.post(INFERENCE, json=body)) for _ in range(3)]
        while node.working < 3:
            await asyncio.sleep(0.01)
        for pid in gateway.workers():
            os.kill(pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*requests, return_exceptions=True)
    assert all(isinstance(outcome, aiohttp.ClientError) for outcome in outcomes)
    await asyncio.to_thread(eventually, lambda: is_ready(gateway), 30)


def is_ready(gateway: GatewayServer) -> bool:
    """Whether a worker is up again; until main has noticed, a killed one's socket still takes connections."""
    with suppress(OSError, http.client.HTTPException):
        return gateway.get("/ready")[0] == 200
    return False


def assert_closed(gateway: GatewayServer, token: str) -> None:
    """Nobody is served unlimited, nobody waits, and the gateway itself lives."""
    chat = {"model": PETALS, "messages": [{"role": "user", "content": "hi"}]}
    asked: list[tuple[str, str, object]] = [
        ("POST", INFERENCE, GOOD),
        ("POST", f"{INFERENCE}/stream", GOOD),
        ("POST", "/v1/chat/completions", chat),
        ("POST", "/v1/chat/completions", {**chat, "stream": True}),
        ("POST", NONCE, {"address": new_wallet().checksummed}),
        ("POST", VERIFY, {"address": new_wallet().checksummed, "signature": "0x12"}),
        ("POST", "/api/v1/auth/logout", {}),
        ("GET", ME, None),
    ]
    for method, path, body in asked:
        started = time.monotonic()
        answer = call(
            gateway.url, method, path, headers=JSON | bearer(token), body=None if body is None else json.dumps(body)
        )
        took_s = time.monotonic() - started

        assert (answer.status, answer.headers["retry-after"]) == (503, "1"), (method, path, answer.body)
        assert took_s < 1, (method, path)
        assert b"store_unavailable" in answer.body or b"The gateway's store is not available" in answer.body
    assert get(gateway, "/health", token).status == 200
    assert get(gateway, "/ready", token).status == 503
    assert get(gateway, "/ready", token).json()["redis"] == "unavailable"


def assert_heals(gateway: GatewayServer, wallet: Wallet) -> None:
    """
    Everything is as before, without a restart; the quota was not forgotten.

    The token may be: what Redis was asked before it hung, a logout too, it may do when it goes on.
    """
    eventually(lambda: all(get(gateway, "/ready", "").status == 200 for _ in range(6)))
    token = sign_in(gateway.url, wallet)
    assert remaining(post(gateway.url, INFERENCE, GOOD, token)) <= 9
    assert get(gateway, ME, token).status == 200
    assert sign_in(gateway.url)
    assert " ERROR " not in gateway.log(), gateway.log()


def get(gateway: GatewayServer, path: str, token: str) -> Answer:
    """GET with a token."""
    return call(gateway.url, "GET", path, headers=bearer(token))
