"""Agents behind NAT: they connect to one worker, and serve the clients of all workers and machines."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.e2e.client import Stream, bearer, call, events, post, streamed
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.wallet import sign_in
from tests.fakes.redis_server import RedisServer
from tests.fakes.relay_agent import HELLO, Fault, RelayAgent, Running, agents_loop, auth_message
from tests.fakes.wallet import Wallet

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEXT = "".join(HELLO)
ENV = {
    "WEB_CONCURRENCY": "2",
    "NODE_FIRST_TOKEN_TIMEOUT": "3s",
    "NODE_TOKEN_TIMEOUT": "2s",
    "NODE_TOTAL_TIMEOUT": "15s",
    "NODE_PROBE_INTERVAL": "1h",
    "FREE_TIER_LIMIT": "10000",
}
SAMPLES = 24  # new connections: that all of them go to one of two workers happens once in 8 million times
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """Two workers, no node but the agents of the tests."""
    with GatewayServer(tmp_path_factory.mktemp("relay"), ENV) as server:
        yield server


@pytest.fixture(scope="module")
def loop() -> Iterator[Running]:
    with agents_loop() as running:
        yield running


@pytest.fixture(scope="module")
def token(gateway: GatewayServer) -> str:
    return sign_in(gateway.url)


@pytest.fixture
def agent(gateway: GatewayServer, loop: Running) -> Iterator[RelayAgent]:
    """An agent that all workers know."""
    joined = joined_agent(gateway, loop)
    yield joined
    loop.do(joined.leave())
    eventually(lambda: all(not nodes_at(gateway) for _ in range(SAMPLES)))


def joined_agent(gateway: GatewayServer, loop: Running, wallet: Wallet | None = None) -> RelayAgent:
    agent = RelayAgent(gateway.url, wallet or Wallet(secrets.token_bytes(32)), MODEL)
    assert loop.do(agent.join()) == {"type": "auth_ok"}
    all_know(gateway, agent)
    return agent


def all_know(gateway: GatewayServer, agent: RelayAgent) -> None:
    eventually(lambda: all(agent.node_url in nodes_at(gateway) for _ in range(SAMPLES)))


def nodes_at(gateway: GatewayServer) -> dict[str, Any]:
    """The nodes that one worker, whichever it is, has online."""
    listed = json.loads(gateway.get("/api/v1/nodes")[1])["nodes"]
    return {node["url"]: node for node in listed}


def ask(gateway: GatewayServer, token: str, **changes: Any) -> Any:
    answer = post(gateway.url, "/api/v1/inference/chat", BODY | changes, token)
    assert answer.status == 201, answer.body
    return answer.json()


class TestServing:
    def test_it_is_a_node_like_others(self, gateway: GatewayServer, agent: RelayAgent) -> None:
        node = nodes_at(gateway)[agent.node_url]
        models = {model["id"]: model for model in json.loads(gateway.get("/api/v1/models")[1])["models"]}

        assert node["address"] == agent.wallet.address
        assert node["status"] == "online"
        assert node["models"] == [MODEL]
        assert models[MODEL]["nodes"] == 1
        assert models[MODEL]["status"] == "available"

    def test_all_workers_ask_it(self, gateway: GatewayServer, agent: RelayAgent, token: str) -> None:
        for _ in range(12):
            answer = ask(gateway, token)

            assert answer["choices"][0]["message"]["content"] == TEXT
            assert answer["usage"]["completion_tokens"] == len(HELLO)
        assert len(agent.requests) == 12

    def test_all_workers_stream_it(self, gateway: GatewayServer, agent: RelayAgent, token: str) -> None:
        for _ in range(12):
            answer = post(gateway.url, "/v1/chat/completions", BODY | {"stream": True}, token)

            chunks = [json.loads(event.data) for event in events(answer.body) if event.data != "[DONE]"]
            assert [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:-1]] == list(HELLO)
            assert chunks[-1]["choices"][0]["finish_reason"] == "stop"

    def test_it_is_asked_in_its_own_words(self, gateway: GatewayServer, agent: RelayAgent, token: str) -> None:
        ask(gateway, token, temperature=0, top_p=0.5, max_tokens=7)

        (asked,) = agent.requests
        assert len(asked.pop("id")) == 32
        assert asked == {
            "type": "request",
            "messages": BODY["messages"],
            "maxTokens": 7,
            "temperature": 0.0,
            "topP": 0.5,
            "stream": False,
        }

    def test_a_plain_prompt_is_a_message_of_the_user(
        self, gateway: GatewayServer, agent: RelayAgent, token: str
    ) -> None:
        post(gateway.url, "/v1/completions", {"model": MODEL, "prompt": "A chain is"}, token)

        assert agent.requests[0]["messages"] == [{"role": "user", "content": "A chain is"}]

    def test_stop_sequences_cut_though_agents_know_none(
        self, gateway: GatewayServer, agent: RelayAgent, token: str
    ) -> None:
        for stream in (False, True) * 4:
            body = BODY | {"stop": " the", "stream": stream}
            answer = post(gateway.url, "/v1/chat/completions", body, token).body
            assert b"from" in answer
            assert b"agent" not in answer.replace(b"agents", b"")

    def test_it_answers_several_at_once(self, gateway: GatewayServer, agent: RelayAgent, token: str) -> None:
        agent.delay_s = 0.1
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask(gateway, token), range(8)))

        assert {answer["choices"][0]["message"]["content"] for answer in answers} == {TEXT}

    def test_ping_is_answered(self, agent: RelayAgent, loop: Running) -> None:
        loop.do(agent.send({"type": "ping"}))

        eventually(lambda: agent.pongs == 1)

    def test_junk_does_not_end_its_connection(
        self, gateway: GatewayServer, agent: RelayAgent, loop: Running, token: str
    ) -> None:
        for junk in ("", "[" * 5000, "null", '"x"', "{}", '{"type":1}', '{"type":"chunk","id":"x"}', '{"type":"done"}'):
            loop.do(agent.socket.send(junk))
        loop.do(agent.socket.send(b"\xff\xfe"))

        ask(gateway, token)


class TestFailing:
    """Each fault through both workers: the one that holds the socket, and one that reaches it over the bus."""

    @pytest.mark.parametrize("fault", [Fault.EMPTY, Fault.ERROR, Fault.GARBAGE, Fault.GIANT])
    @pytest.mark.parametrize("stream", [False, True])
    def test_before_the_first_token_another_node_is_tried(
        self, gateway: GatewayServer, agent: RelayAgent, loop: Running, token: str, fault: Fault, stream: bool
    ) -> None:
        other = joined_agent(gateway, loop)
        agent.fault = fault
        try:
            for _ in range(6):
                assert post(gateway.url, "/v1/chat/completions", BODY | {"stream": stream}, token).status == 200
        finally:
            loop.do(other.leave())
        assert agent.requests
        assert len(other.requests) == 6

    @pytest.mark.parametrize("fault", [Fault.ERROR_LATER, Fault.STALL, Fault.LEAVE])
    def test_after_it_the_stream_ends_with_an_error(
        self, gateway: GatewayServer, loop: Running, token: str, fault: Fault
    ) -> None:
        for _ in range(3):
            agent = joined_agent(gateway, loop)
            agent.fault = fault
            try:
                answer = post(gateway.url, "/api/v1/inference/stream", BODY, token)
            finally:
                loop.do(agent.leave())
            assert [event.name for event in events(answer.body)] == ["message", "error"]

    def test_a_silent_one_is_left_at_the_first_token_s_deadline(
        self, gateway: GatewayServer, agent: RelayAgent, token: str
    ) -> None:
        agent.fault = Fault.SILENT

        assert post(gateway.url, "/v1/chat/completions", BODY | {"stream": True}, token).status == 503
        assert len(agent.requests) == 1

    def test_an_endless_one_is_cut(self, gateway: GatewayServer, loop: Running, token: str) -> None:
        for _ in range(3):
            agent = joined_agent(gateway, loop)
            agent.fault = Fault.ENDLESS
            answer = post(gateway.url, "/api/v1/inference/stream", BODY, token)
            loop.do(agent.leave())
            assert events(answer.body)[-1].name == "error"
            assert len(answer.body) < 64 * 64 * 10

    def test_a_prompt_that_does_not_fit_is_the_clients_fault(
        self, gateway: GatewayServer, agent: RelayAgent, token: str
    ) -> None:
        agent.fault = Fault.OVERFLOW
        for _ in range(6):
            answer = post(gateway.url, "/api/v1/inference/chat", BODY, token)

            assert answer.status == 400
            assert "context" in answer.json()["message"]
        assert len(agent.requests) == 6

    def test_a_client_that_leaves_gets_nothing_more(
        self, gateway: GatewayServer, agent: RelayAgent, token: str
    ) -> None:
        agent.answer, agent.delay_s = ["word "] * 30, 0.05
        for _ in range(4):
            body = json.dumps(BODY | {"stream": True})
            headers = bearer(token) | {"Content-Type": "application/json"}
            with streamed(gateway.url, "POST", "/v1/chat/completions", headers=headers, body=body) as stream:
                stream.read_until(b"word")
        agent.answer, agent.delay_s = HELLO, 0.0

        assert ask(gateway, token)["choices"][0]["message"]["content"] == TEXT


class TestCrossAnswers:
    def test_another_agent_s_answer_is_never_taken(
        self, gateway: GatewayServer, agent: RelayAgent, loop: Running, token: str
    ) -> None:
        thief = RelayAgent(gateway.url, Wallet(secrets.token_bytes(32)), "none/of-the-catalogue")
        assert loop.do(thief.join()) == {"type": "auth_ok"}
        agent.delay_s = 0.2
        try:
            with ThreadPoolExecutor(1) as pool:
                for _ in range(8):
                    before = len(agent.requests)
                    asking = pool.submit(post, gateway.url, "/v1/chat/completions", BODY | {"stream": True}, token)
                    eventually(partial(was_asked, agent, before))
                    stolen = agent.requests[-1]["id"]
                    loop.do(thief.send({"type": "chunk", "id": stolen, "content": "STOLEN"}))
                    loop.do(thief.send({"type": "done", "id": stolen}))
                    answer = asking.result()
                    assert answer.status == 200
                    assert b"STOLEN" not in answer.body
        finally:
            loop.do(thief.leave())
        assert "answers what it was not asked" in gateway.log()


class TestHandshake:
    """Close codes and words as agents know them."""

    @pytest.fixture
    def wallet(self) -> Wallet:
        return Wallet(secrets.token_bytes(32))

    def said(self, gateway: GatewayServer, *messages: str | bytes) -> tuple[list[Any], int | None, str | None]:
        with connect(gateway.url.replace("http", "ws") + "/ws/agent-relay", proxy=None) as socket:
            for message in messages:
                socket.send(message)
            heard = []
            with suppress(ConnectionClosed):
                while True:
                    heard.append(json.loads(socket.recv(15)))
            return heard, socket.close_code, socket.close_reason

    def test_another_first_message_than_auth(self, gateway: GatewayServer) -> None:
        assert self.said(gateway, "no json", '{"type":"ping"}') == ([], 4002, "Expected auth message")

    @pytest.mark.parametrize("name", ["address", "model", "timestamp", "signature"])
    @pytest.mark.parametrize("value", [None, "", 0, [1]])
    def test_a_field_that_is_missing(self, gateway: GatewayServer, wallet: Wallet, name: str, value: Any) -> None:
        message = auth_message(wallet, MODEL) | {name: value}

        reason = "Missing auth fields"
        assert self.said(gateway, json.dumps(message)) == ([{"type": "auth_error", "message": reason}], 4003, reason)

    @pytest.mark.parametrize(
        ("model", "timestamp"),
        [("m" * 101, None), ("x\nFORGED \x1b[31m", None), (MODEL, 10**400)],
        ids=["long", "lines", "late"],
    )
    def test_a_field_out_of_its_bounds(
        self, gateway: GatewayServer, wallet: Wallet, model: str, timestamp: int | None
    ) -> None:
        message = json.dumps(auth_message(wallet, model, timestamp))

        reason = "Missing auth fields"
        assert self.said(gateway, b'"\xff"', message) == ([{"type": "auth_error", "message": reason}], 4003, reason)
        assert "FORGED" not in gateway.log()
        assert "Traceback" not in gateway.log()

    @pytest.mark.parametrize("drift_s", [-302, 302, 10**15])
    def test_another_time(self, gateway: GatewayServer, wallet: Wallet, drift_s: int) -> None:
        heard, code, reason = self.said(gateway, json.dumps(auth_message(wallet, MODEL, int(time.time()) + drift_s)))

        assert heard == [{"type": "auth_error", "message": "Timestamp too old or too far in future"}]
        assert (code, reason) == (4004, "Timestamp drift")

    @pytest.mark.parametrize("changes", [{"model": "other"}, {"address": "0x" + "1" * 40}, {"signature": "0x12"}])
    def test_a_signature_that_is_not_of_this(
        self, gateway: GatewayServer, wallet: Wallet, changes: dict[str, str]
    ) -> None:
        reason = "Invalid signature"
        message = json.dumps(auth_message(wallet, MODEL) | changes)
        assert self.said(gateway, message) == ([{"type": "auth_error", "message": reason}], 4005, reason)

    def test_a_message_that_was_used_before(self, gateway: GatewayServer, loop: Running, wallet: Wallet) -> None:
        message = json.dumps(auth_message(wallet, MODEL))
        with connect(gateway.url.replace("http", "ws") + "/ws/agent-relay", proxy=None) as socket:
            socket.send(message)
            assert json.loads(socket.recv(5)) == {"type": "auth_ok"}

        for _ in range(4):
            assert self.said(gateway, message)[1:] == (4005, "Invalid signature")

    @pytest.mark.long
    def test_nothing_for_ten_seconds(self, gateway: GatewayServer) -> None:
        assert self.said(gateway, "no json")[1:] == (4001, "Auth timeout")

    def test_of_too_many_at_once_the_last_are_sent_away(self, gateway: GatewayServer) -> None:
        url = gateway.url.replace("http", "ws") + "/ws/agent-relay"
        with ExitStack() as stack:
            sockets = [stack.enter_context(connect(url, proxy=None)) for _ in range(40)]

            # Each of the two workers has three places. The kernel deals the sockets out at random: of 12 a worker
            # would get fewer than three once in 26 times, of 40 never.
            eventually(lambda: sum(socket.close_code == 1013 for socket in sockets) == 34, within_s=8)

    def test_a_plain_get_is_told_to_upgrade(self, gateway: GatewayServer) -> None:
        assert call(gateway.url, "GET", "/ws/agent-relay").status == 426


class TestReconnect:
    def test_the_new_connection_takes_the_old_one_s_place_at_whichever_worker(
        self, gateway: GatewayServer, loop: Running, token: str
    ) -> None:
        wallet = Wallet(secrets.token_bytes(32))
        agents = [joined_agent(gateway, loop, wallet)]
        for _ in range(5):
            time.sleep(max(0.0, 1.01 - time.time() % 1))  # agents sign whole seconds, and no signature is good twice
            old = agents[-1]
            agents.append(joined_agent(gateway, loop, wallet))
            eventually(partial(was_replaced, old))

        assert list(nodes_at(gateway)) == [agents[-1].node_url]
        for _ in range(6):
            ask(gateway, token)
        assert [len(agent.requests) for agent in agents] == [0, 0, 0, 0, 0, 6]
        loop.do(agents[-1].leave())


class TestDeath:
    def test_when_the_worker_of_an_agent_is_killed_the_agent_serves_from_another_one(
        self, tmp_path: Path, loop: Running
    ) -> None:
        with GatewayServer(tmp_path, ENV) as server:
            token = sign_in(server.url)
            agent = joined_agent(server, loop)
            killed = owner_of(server, agent)
            os.kill(killed, signal.SIGKILL)
            eventually(lambda: agent.closed is not None)
            eventually(lambda: "ended by itself" in server.log())
            time.sleep(0.3)  # from then on new connections go to the other one

            # The other worker still lists it; asking finds that nobody is there, and says so at once.
            began = time.monotonic()
            assert post(server.url, "/api/v1/inference/chat", BODY, token).status == 503
            assert time.monotonic() - began < 3

            time.sleep(max(0.0, 1.01 - time.time() % 1))
            assert loop.do(agent.join()) == {"type": "auth_ok"}
            all_know(server, agent)
            assert ask(server, token)["choices"][0]["message"]["content"] == TEXT
            loop.do(agent.leave())

    def test_an_answer_of_the_killed_worker_ends_as_soon_as_its_agent_is_back(
        self, tmp_path: Path, loop: Running
    ) -> None:
        with GatewayServer(tmp_path, ENV | {"NODE_TOKEN_TIMEOUT": "60s", "NODE_TOTAL_TIMEOUT": "60s"}) as server:
            token = sign_in(server.url)
            agent = joined_agent(server, loop)
            owner = owner_of(server, agent)
            agent.fault = Fault.STALL
            with streams_of_another_worker(server, token, owner) as stream:
                os.kill(owner, signal.SIGKILL)
                eventually(lambda: agent.closed is not None)
                time.sleep(max(0.0, 1.01 - time.time() % 1))
                assert loop.do(agent.join()) == {"type": "auth_ok"}

                assert b"event: error" in stream.read_all()
            loop.do(agent.leave())


class TestStop:
    def test_what_agents_have_begun_they_end_and_then_they_are_sent_away(self, tmp_path: Path, loop: Running) -> None:
        with GatewayServer(tmp_path, ENV) as server:
            token = sign_in(server.url)
            agent = joined_agent(server, loop)
            agent.answer, agent.delay_s = ["word "] * 20, 0.1
            with ExitStack() as stack:
                body = json.dumps(BODY | {"stream": True})
                headers = bearer(token) | {"Content-Type": "application/json"}
                streams = [
                    stack.enter_context(
                        streamed(server.url, "POST", "/v1/chat/completions", headers=headers, body=body)
                    )
                    for _ in range(4)
                ]
                for stream in streams:
                    stream.read_until(b"word")
                server.signal(signal.SIGTERM)

                for stream in streams:
                    assert stream.read_all().endswith(b"data: [DONE]\n\n")
                    assert stream.body.count(b"word") == 20
            eventually(lambda: agent.closed == (1001, "Going away"))
            assert server.wait(10) == 0
            assert "Traceback" not in server.log()
            loop.do(agent.leave())

    def test_idle_agents_do_not_hold_it_up(self, tmp_path: Path, loop: Running) -> None:
        with GatewayServer(tmp_path, ENV) as server:
            agent = joined_agent(server, loop)
            server.signal(signal.SIGTERM)

            assert server.wait(5) == 0
            eventually(lambda: agent.closed == (1001, "Going away"))
            loop.do(agent.leave())


class TestTwoGateways:
    def test_an_agent_at_one_serves_the_clients_of_the_other(self, tmp_path: Path, loop: Running) -> None:
        redis = RedisServer(tmp_path)
        redis.start()
        env = ENV | {"REDIS_URL": redis.url, "WEB_CONCURRENCY": "1"}
        (tmp_path / "here").mkdir()
        (tmp_path / "there").mkdir()
        try:
            with GatewayServer(tmp_path / "here", env) as here, GatewayServer(tmp_path / "there", env) as there:
                agent = joined_agent(here, loop)
                all_know(there, agent)
                token = sign_in(there.url)

                assert ask(there, token)["choices"][0]["message"]["content"] == TEXT
                streaming = post(there.url, "/api/v1/inference/stream", BODY, token)
                assert [event.data for event in events(streaming.body)[:-1]] == list(HELLO)

                loop.do(agent.leave())
                eventually(lambda: not nodes_at(there), within_s=2)
        finally:
            redis.stop()


class TestRelayWallets:
    def test_only_those_of_the_list_may_connect(self, tmp_path: Path, loop: Running) -> None:
        known, stranger = (Wallet(secrets.token_bytes(32)) for _ in range(2))
        with GatewayServer(tmp_path, ENV | {"WEB_CONCURRENCY": "1", "RELAY_WALLETS": known.checksummed}) as server:
            loop.do(joined_agent(server, loop, known).leave())
            refused = RelayAgent(server.url, stranger, MODEL)

            assert loop.do(refused.join()) == {"type": "auth_error", "message": "Wallet not allowed"}
            eventually(lambda: refused.closed == (4006, "Wallet not allowed"))


class TestDeadPeer:
    def test_an_agent_that_answers_no_ping_is_gone_and_its_answers_end(self, tmp_path: Path, loop: Running) -> None:
        env = ENV | {"WEB_CONCURRENCY": "1", "NODE_TOKEN_TIMEOUT": "60s", "NODE_TOTAL_TIMEOUT": "60s"}
        with GatewayServer(tmp_path, env, program=("-m", "tests.e2e.relay_app")) as server:
            token = sign_in(server.url)
            agent = joined_agent(server, loop)
            agent.fault = Fault.STALL
            body, headers = json.dumps(BODY), bearer(token) | {"Content-Type": "application/json"}
            with streamed(server.url, "POST", "/api/v1/inference/stream", headers=headers, body=body) as stream:
                stream.read_until(b"Hello")
                agent.socket.transport.pause_reading()

                assert b"event: error" in stream.read_all()
            assert not nodes_at(server)
            agent.socket.transport.abort()
            loop.do(agent.leave())


class TestBesideSocketIo:
    def test_both_kinds_of_websocket_are_served_together(
        self, gateway: GatewayServer, agent: RelayAgent, token: str
    ) -> None:
        node, script = Path(sys.executable).parent / "node", Path(__file__).parent.parent / "js" / "connects.mjs"

        ended = subprocess.run([node, script, gateway.url, "12"], capture_output=True, timeout=60, check=True)

        assert json.loads(ended.stdout) == {"connected": 12, "websocket": 12, "problems": []}
        assert ask(gateway, token)["choices"][0]["message"]["content"] == TEXT
        assert agent.closed is None


def was_asked(agent: RelayAgent, before: int) -> bool:
    return len(agent.requests) > before


def was_replaced(agent: RelayAgent) -> bool:
    return agent.closed == (4010, "Replaced by new connection")


def owner_of(server: GatewayServer, agent: RelayAgent) -> int:
    """
    The process at the other end of an agent's connection, by the inode of its socket (proc(5)).

    The kernel's table changes while it is read: a row may come twice, or not at all.
    """
    ends = f":{server.port:04X}", f":{agent.socket.local_address[1]:04X}"
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
        sockets = {f"socket:[{row[9]}]" for row in rows if (row[1][-5:], row[2][-5:]) == ends and row[3] == "01"}
        for pid in server.workers():
            if sockets & open_files(pid):
                return pid
    raise AssertionError("no worker has the agent's connection")


def open_files(pid: int) -> set[str]:
    return {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}


@contextmanager
def streams_of_another_worker(server: GatewayServer, token: str, owner: int) -> Iterator[Stream]:
    """A stream that has begun, of a worker that is not the owner."""
    body = json.dumps(BODY | {"stream": True})
    headers = bearer(token) | {"Content-Type": "application/json"}
    while True:
        before = {pid: len(open_files(pid)) for pid in server.workers()}
        with streamed(server.url, "POST", "/api/v1/inference/stream", headers=headers, body=body) as stream:
            stream.read_until(b"data:")
            if len(open_files(owner)) <= before[owner]:
                yield stream
                return
