"""Socket.IO's events through the true gateway, as its former clients see them: socket.io-client in Node."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import jwt
import pytest
from websockets.sync.client import connect

from tests.e2e.client import eventually_none_work, post
from tests.e2e.conftest import gateway_with
from tests.e2e.js_clients import NODE, POLLING, SCRIPTS, WEBSOCKET, watched
from tests.e2e.network import AGENT, PETALS, Network
from tests.e2e.server import DEFAULTS, GatewayServer
from tests.e2e.wallet import sign_in
from tests.fakes.balancer import balancing
from tests.fakes.redis_server import RedisServer

SESSIONS = json.loads((Path(__file__).parent.parent / "vectors" / "socket.json").read_text("utf-8"))["sessions"]
PATH = "/ws/inference"
ADDED = {"seq", "statusCode", "retryable", "id", "model", "finish_reason", "usage"}
LIMIT = 10


@pytest.fixture(scope="module")
def played(gateway: GatewayServer, running_nodes: Network) -> dict[str, list[list[Any]]]:
    """What happened in each session; all are played side by side."""
    running_nodes.reset()
    sessions = [
        {
            "name": session["name"],
            "namespace": session.get("namespace", PATH),
            "options": _options(gateway.url, session),
            "emit": session["emit"],
            "at_once": session.get("at_once", False),
        }
        for session in SESSIONS
    ]
    return _play(gateway.url, sessions)


class TestFormerClients:
    @pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session["name"])
    def test_they_are_told_the_same_in_the_same_order(
        self, played: dict[str, list[list[Any]]], session: dict[str, Any]
    ) -> None:
        told = [event for event in played[session["name"]] if event[0] != "inference_chunk"]
        assert [event[0] for event in told] == [event[0] for event in session["events"]], told
        for event, expected in zip(told, session["events"], strict=True):
            assert _is_like(event[1:], expected[1:]), (event, expected)

    def test_nothing_of_it_is_an_error_in_the_log(
        self, played: dict[str, list[list[Any]]], gateway: GatewayServer
    ) -> None:
        assert played
        log = gateway.log()
        assert not [line for line in log.splitlines() if " ERROR " in line and "socket" in line], log[-20_000:]

    def test_a_stream_is_the_nodes_text(self, played: dict[str, list[list[Any]]]) -> None:
        for name in ("websocket only", "polling only", "default transports, auth.token, inference_stream"):
            chunks = [event[1] for event in played[name] if event[0] == "inference_chunk"]
            assert "".join(chunk["data"] for chunk in chunks) == "Hello from the node."
            assert [chunk["seq"] for chunk in chunks] == list(range(1, len(chunks) + 1))


class TestNodes:
    def test_a_cancelled_stream_stops_its_node_at_once(self, gateway: GatewayServer, nodes: Network) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (["word "] * 2000,), 0.01
        with watched(gateway.url + PATH, {"auth": {"token": sign_in(gateway.url)}}) as client:
            client.until("connect")
            client.emit("inference_stream", _asked(AGENT, request_id="a"))
            client.until("event")
            client.emit("inference_cancel", {"request_id": "a"})
            while (event := client.until("event"))["event"] == "inference_chunk":
                pass
        assert (event["event"], event["data"]["status"]) == ("inference_complete", "cancelled")
        assert event["data"]["usage"]["completion_tokens"] > 0
        eventually_none_work(nodes.agent)

    def test_a_client_that_leaves_stops_its_node(self, gateway: GatewayServer, nodes: Network) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (["word "] * 2000,), 0.01
        with watched(gateway.url + PATH, {"auth": {"token": sign_in(gateway.url)}}) as client:
            client.until("connect")
            client.emit("inference_stream", _asked(AGENT))
            client.until("event")
        eventually_none_work(nodes.agent, within_s=5)

    def test_one_that_says_so_does_not_leave_a_named_answer_behind(
        self, gateway: GatewayServer, nodes: Network
    ) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (["word "] * 2000,), 0.01
        address = f"ws://127.0.0.1:{gateway.port}/socket.io/?EIO=4&transport=websocket"
        with connect(address, compression=None) as websocket:
            websocket.recv()
            websocket.send(f"40{PATH}," + json.dumps({"token": sign_in(gateway.url)}))
            websocket.recv()
            websocket.send(f"42{PATH}," + json.dumps(["inference_stream", _asked(AGENT, request_id="a")]))
            assert "inference_chunk" in str(websocket.recv())
            websocket.send(f"41{PATH},")
        eventually_none_work(nodes.agent, within_s=5)

    def test_an_answer_is_resumed_on_another_connection(self, gateway: GatewayServer, nodes: Network) -> None:
        words = [f"w{number} " for number in range(60)]
        nodes.agent.answers, nodes.agent.delay_s = (words,), 0.02
        options = {"auth": {"token": sign_in(gateway.url)}}
        with watched(gateway.url + PATH, options) as client:
            client.until("connect")
            client.emit("inference_stream", _asked(AGENT, request_id="a"))
            last = client.until("event")["data"]
            text = last["data"]
        with watched(gateway.url + PATH, options) as client:
            client.until("connect")
            client.emit("inference_resume", {"request_id": "a", "after_seq": last["seq"]})
            while (event := client.until("event"))["event"] == "inference_chunk":
                text += event["data"]["data"]
        assert (event["event"], event["data"]["status"]) == ("inference_complete", "done")
        assert text == "".join(words)


@pytest.mark.long
class TestMachines:
    def test_streams_are_whole_when_each_request_goes_to_another_machine(
        self, redis_server: RedisServer, nodes: Network
    ) -> None:
        words = [f"w{number} " for number in range(80)]
        nodes.agent.answers, nodes.agent.delay_s = (words,), 0.005
        redis_server.flush()
        with (
            gateway_with(nodes.agent.url, REDIS_URL=redis_server.url) as one,
            gateway_with(nodes.agent.url, REDIS_URL=redis_server.url) as other,
            balancing([one.port, other.port]) as balancer,
        ):
            session = {"namespace": PATH, "emit": [["inference_stream", _asked(AGENT)]]}
            options = [{}, {}, {}, POLLING, WEBSOCKET]
            told = _play(
                balancer.url,
                [
                    session | {"name": str(number), "options": {"auth": {"token": sign_in(one.url)}, **more}}
                    for number, more in enumerate(options)
                ],
            )
        for events in told.values():
            assert "".join(event[1]["data"] for event in events if event[0] == "inference_chunk") == "".join(words)
            assert [event[0] for event in events[-2:]] == ["inference_complete", "disconnect"]


class TestShutdown:
    def test_a_running_stream_is_told_that_it_may_try_again_before_its_link_is_dropped(self, nodes: Network) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (["word "] * 2000,), 0.01
        with (
            gateway_with(nodes.agent.url, SHUTDOWN_TIMEOUT="1s") as server,
            watched(server.url + PATH, {"auth": {"token": sign_in(server.url)}, "reconnection": False}) as client,
        ):
            client.until("connect")
            client.emit("inference_stream", _asked(AGENT))
            client.until("event")
            server.signal(signal.SIGTERM)
            while (event := client.until("event"))["event"] == "inference_chunk":
                pass
            assert (event["event"], event["data"]["statusCode"]) == ("inference_error", 503)
            assert event["data"]["retryable"] is True
            assert client.until("disconnect")["reason"] == "transport close"
            assert server.wait() == 0
            assert " ERROR " not in server.log()


def _play(url: str, sessions: list[dict[str, Any]]) -> dict[str, list[list[Any]]]:
    argument = json.dumps({"url": url, "sessions": sessions})
    ended = subprocess.run([NODE, SCRIPTS / "sessions.mjs", argument], capture_output=True, timeout=120, check=True)
    told: dict[str, list[list[Any]]] = json.loads(ended.stdout)
    return told


def _asked(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "prompt": "Hi", "max_tokens": 2000, **more}


def _options(url: str, session: dict[str, Any]) -> dict[str, Any]:
    kind = session.get("token", "good")
    transports = {"transports": session["transports"]} if "transports" in session else {}
    if kind == "none":
        return transports
    if kind == "header":
        return {"extraHeaders": {"authorization": f"Bearer {sign_in(url)}"}, **transports}
    return {"auth": {"token": _token(url, kind)}, **transports}


def _token(url: str, kind: str) -> str:
    if kind == "bad":
        return "x"
    if kind == "expired":
        claims = {"address": "0x" + "ab" * 20, "iat": 1, "exp": 2}
        return jwt.encode(claims, DEFAULTS["JWT_SECRET"], "HS256")
    token = sign_in(url)
    for _ in range(LIMIT if kind == "limited" else 0):
        asked = {"model": PETALS, "prompt": "Hi", "max_tokens": 4}
        assert post(url, "/api/v1/inference", asked, token).status == 201
    return token


def _is_like(found: Any, expected: Any) -> bool:
    """Whether all that is expected is found; besides it only what this gateway adds."""
    if expected == "*":
        return found is not None
    if isinstance(expected, dict):
        added = set(found) - set(expected)
        return added <= ADDED and all(name in found and _is_like(found[name], expected[name]) for name in expected)
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(_is_like, found, expected))
    return bool(found == expected)
