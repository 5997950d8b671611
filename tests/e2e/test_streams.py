"""Streams through the whole gateway: every byte of their framing, and how they end whoever ends them."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import signal
import socket
import time
from contextlib import closing
from urllib.parse import quote

import aiohttp
import pytest

from tests.e2e.client import JSON, TIMEOUT_S, Event, Stream, bearer, events, eventually_none_work, streamed
from tests.e2e.conftest import OPERATOR_KEY, gateway_with
from tests.e2e.network import AGENT, OPENAI, PETALS, TWINS, Network
from tests.e2e.server import eventually
from tests.e2e.wallet import sign_in

STREAM = "/api/v1/inference/stream"
BEAT = b": heartbeat\n\n"
KOREAN = ["안녕", "하세", "요 😀", "👩‍👩‍👧", "\n새 줄", "\n\n", " é끝"]


def asked(model: str, prompt: str = "hi", max_tokens: int = 64) -> str:
    """A body for the stream's door."""
    return json.dumps({"model": model, "prompt": prompt, "max_tokens": max_tokens})


def chat(model: str, max_tokens: int = 64) -> str:
    """A body for OpenAI's door."""
    messages = [{"role": "user", "content": "hi"}]
    return json.dumps({"model": model, "messages": messages, "max_tokens": max_tokens, "stream": True})


def read(url: str, token: str, body: str) -> Stream:
    """A whole stream of the former service's door."""
    with streamed(url, "POST", STREAM, headers=JSON | bearer(token), body=body) as stream:
        stream.read_all()
        return stream


def read_over(connection: http.client.HTTPConnection, token: str) -> bytes:
    """The same of the twins; one connection is one worker, whose round robin tries each of them within two requests."""
    connection.request("POST", STREAM, asked(TWINS), JSON | bearer(token))
    return connection.getresponse().read()


def text_of(found: list[Event]) -> str:
    """What the events say before the last one."""
    return "".join(event.data for event in found if event.name == "message")


class TestTheFormerServicesDoor:
    @pytest.mark.parametrize(
        ("method", "path", "body", "status"),
        [
            ("GET", f"{STREAM}?model={quote(AGENT, '')}&prompt={quote('안녕?')}&max_tokens=64", None, 200),
            ("GET", f"{STREAM}?model={quote(AGENT, '')}&prompt={quote('안녕?')}&max_tokens=64&stream=true", None, 200),
            ("GET", STREAM, asked(AGENT, "안녕?"), 200),
            ("POST", STREAM, asked(AGENT, "안녕?"), 201),
        ],
    )
    def test_streams_however_it_is_asked(
        self, url: str, token: str, nodes: Network, method: str, path: str, body: str | None, status: int
    ) -> None:
        nodes.agent.answers = (["Hello", "\n", " two\nlines"],)

        headers = bearer(token) | (JSON if body else {})
        with streamed(url, method, path, headers=headers, body=body) as stream:
            raw = stream.read_all()

        before, _, end = raw.partition(b"event: complete\n")
        assert (stream.status, stream.headers["content-type"]) == (status, "text/event-stream")
        assert before == b"\nid: 1\ndata: Hello\n\nid: 2\ndata: \ndata: \n\nid: 3\ndata:  two\ndata: lines\n\n"
        assert re.fullmatch(rb"id: 4\ndata: \{[^\n]+\}\n\n", end)
        assert nodes.agent.generated[0].body["inputs"] == "안녕?"

    def test_counts_events_and_tells_the_usage(self, url: str, token: str) -> None:
        *pieces, end = events(read(url, token, asked(AGENT)).body)

        assert [event.id for event in [*pieces, end]] == ["1", "2", "3", "4", "5"]
        told = json.loads(end.data)
        assert (end.name, told["model"], told["finish_reason"]) == ("complete", AGENT, "stop")
        assert told["usage"]["completion_tokens"] == 4

    @pytest.mark.parametrize("model", [PETALS, AGENT, OPENAI])
    @pytest.mark.parametrize("split", [2, 5])
    def test_keeps_text_however_the_network_cuts_it(
        self, url: str, token: str, nodes: Network, model: str, split: int
    ) -> None:
        node = nodes.node_of(model)
        node.answers, node.split = (KOREAN,), split

        *pieces, end = events(read(url, token, asked(model)).body)

        assert text_of(pieces) == "".join(KOREAN)
        assert end.name == "complete"

    @pytest.mark.parametrize("model", [AGENT, OPENAI])
    @pytest.mark.parametrize("fault", ["cut-line", "cut-utf8", "garbage", "error-event"])
    def test_that_breaks_ends_with_an_error_behind_what_came(
        self, url: str, token: str, nodes: Network, model: str, fault: str
    ) -> None:
        node = nodes.node_of(model)
        node.fault, node.after, node.delay_s = fault, 2, 0.15  # so that the first token leaves before the fault

        found = events(read(url, token, asked(model)).body)

        assert [event.name for event in found] == ["message", "message", "error"]
        assert text_of(found) == "Hello from"
        assert found[-1].data == "The answer was cut off by its node."

    @pytest.mark.parametrize("model", [PETALS, AGENT, OPENAI])
    def test_has_a_true_status_when_nothing_came(self, url: str, token: str, nodes: Network, model: str) -> None:
        nodes.node_of(model).fault = "500"

        answer = read(url, token, asked(model))

        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert json.loads(answer.body)["message"] == "All inference nodes failed. Please try again later."
        assert "text/event-stream" not in answer.headers["content-type"]

    def test_tells_its_head_alone_to_who_asks_for_that(self, url: str, token: str, nodes: Network) -> None:
        path = f"{STREAM}?prompt=hi&max_tokens=8&temperature=1&top_p=1&model={quote(AGENT)}"
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)) as connection:
            connection.request("HEAD", path, headers=bearer(token))
            answer = connection.getresponse()
            body, line = answer.read(), connection.sock
            connection.request("GET", path, headers=bearer(token))
            whole = connection.getresponse().read()

            assert (answer.status, answer.headers["Content-Type"], body) == (200, "text/event-stream", b"")
            assert connection.sock is line
        assert events(whole)[-1].name == "complete"
        eventually_none_work(nodes.agent)


class TestWaiting:
    @pytest.mark.parametrize("model", [PETALS, AGENT])
    def test_for_a_node_that_thinks_is_made_bearable(self, url: str, token: str, nodes: Network, model: str) -> None:
        node = nodes.node_of(model)
        node.answers, node.delay_s = (["Hello"],), 3.0

        raw = read(url, token, asked(model)).body

        assert raw.startswith(b"\n" + BEAT)
        assert text_of(events(raw)) == "Hello"

    def test_at_openais_door_sends_comments_too(self, url: str, nodes: Network) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (["Hello"],), 3.0
        headers = JSON | bearer(OPERATOR_KEY)

        with streamed(url, "POST", "/v1/chat/completions", headers=headers, body=chat(AGENT)) as stream:
            raw = stream.read_all()

        assert BEAT in raw.partition(b'"content":"Hello"')[0]
        assert raw.endswith(b"data: [DONE]\n\n")


class TestFailover:
    @pytest.mark.parametrize("fault", ["refuse", "500", "503", "not-http", "empty", "redirect", "error-event"])
    def test_before_the_first_token_nobody_notices(self, url: str, token: str, nodes: Network, fault: str) -> None:
        ill = nodes.twins[0]
        ill.fault, ill.after = fault, 0
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)) as connection:
            answers = [events(read_over(connection, token)) for _ in range(2)]
            assert ill.generated or fault == "refuse"
            nodes.reset()
            for _ in range(2):  # so that this worker forgets the node's failures
                read_over(connection, token)

        assert all(text_of(found) == "Hello from the node." for found in answers)
        assert all(found[-1].name == "complete" for found in answers)

    def test_from_a_silent_node_comes_behind_heartbeats(self, url: str, token: str, nodes: Network) -> None:
        silent = nodes.twins[0]
        silent.fault = "stall-first"
        with closing(http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)) as connection:
            bodies = [read_over(connection, token)]
            if BEAT not in bodies[0]:
                bodies.append(read_over(connection, token))
            nodes.reset()
            for _ in range(2):  # so that this worker forgets the node's failures
                read_over(connection, token)

        assert [text_of(events(body)) for body in bodies] == ["Hello from the node."] * len(bodies)
        assert BEAT in bodies[-1]
        eventually_none_work(silent)

    @pytest.mark.parametrize("path", [STREAM, "/v1/chat/completions", "/v1/completions"])
    def test_a_head_and_heartbeats_do_not_wait_for_text(self, url: str, token: str, nodes: Network, path: str) -> None:
        nodes.agent.fault = "stall-first"
        asking = {"messages": [{"role": "user", "content": "hi"}]} if "chat" in path else {"prompt": "hi"}
        body = json.dumps({"model": AGENT, "max_tokens": 64, "stream": True, **asking})

        with streamed(url, "POST", path, headers=JSON | bearer(token), body=body) as stream:
            stream.read_until(BEAT + BEAT)

        assert stream.status in (200, 201)
        eventually_none_work(nodes.agent)


class TestAClientWhoLeaves:
    @pytest.mark.parametrize("model", [AGENT, OPENAI])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_ends_the_nodes_work_at_once(self, url: str, token: str, nodes: Network, model: str, method: str) -> None:
        node = nodes.node_of(model)
        node.answers, node.delay_s = (["word "] * 200,), 0.05

        body = asked(model, max_tokens=200)
        with streamed(url, method, STREAM, headers=JSON | bearer(token), body=body) as stream:
            stream.read_until(b"id: 2")
        eventually_none_work(node)

        assert node.left == 1

    @pytest.mark.parametrize("path", [STREAM, "/api/v1/inference"])
    @pytest.mark.parametrize("model", [PETALS, AGENT])
    def test_before_anything_came_ends_it_too(
        self, url: str, token: str, nodes: Network, path: str, model: str
    ) -> None:
        node = nodes.node_of(model)
        node.fault = "stall-first"

        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=TIMEOUT_S)
        connection.request("POST", path, asked(model), JSON | bearer(token))
        eventually(lambda: node.working == 1)
        connection.close()
        eventually_none_work(node)

        assert node.left == 1


class TestManyAndSlow:
    def test_a_slow_reader_misses_nothing(self, url: str, nodes: Network) -> None:
        tokens = [f"{number:05d} 안녕{'.' * 40}" for number in range(2000)]
        nodes.agent.answers = (tokens,)
        body = chat(AGENT, max_tokens=2048).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {len(body)}\r\n"
        headers = "".join(f"{name}: {value}\r\n" for name, value in (JSON | bearer(OPERATOR_KEY)).items())

        raw = b""
        with socket.socket() as narrow:
            narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            narrow.settimeout(TIMEOUT_S)
            narrow.connect(("127.0.0.1", int(url.rpartition(":")[2])))
            narrow.sendall((head + headers + "\r\n").encode() + body)
            while part := narrow.recv(4096):
                raw += part
                time.sleep(0.001)

        said = re.findall(rb'"content":("[^"]*")', raw)
        assert [json.loads(piece) for piece in said] == ["", *tokens]
        assert b"data: [DONE]\n\n" in raw

    @pytest.mark.asyncio
    async def test_a_hundred_streams_hear_each_only_itself(self, url: str, nodes: Network) -> None:
        answers = [[f"{number}:{step} " for step in range(10)] for number in range(100)]
        nodes.agent.answers, nodes.agent.delay_s = answers, 0.01
        headers = JSON | bearer(OPERATOR_KEY)

        async def one(session: aiohttp.ClientSession) -> str:
            async with session.post(f"{url}/v1/chat/completions", data=chat(AGENT), headers=headers) as answer:
                raw = await answer.read()
            assert raw.endswith(b"data: [DONE]\n\n")
            return "".join(json.loads(piece) for piece in re.findall(rb'"content":("[^"]*")', raw))

        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            heard = await asyncio.gather(*(one(session) for _ in range(100)))

        assert sorted(heard) == sorted("".join(answer) for answer in answers)


class TestTheEndOfTheGateway:
    def test_lets_streams_end_whole(self, nodes: Network) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (["word "] * 20,), 0.1
        with gateway_with(nodes.agent.url) as gateway:
            headers = JSON | bearer(sign_in(gateway.url))
            openai = streamed(gateway.url, "POST", "/v1/chat/completions", headers=headers, body=chat(AGENT))
            former = streamed(gateway.url, "POST", STREAM, headers=headers, body=asked(AGENT))
            with openai as one, former as other:
                one.read_until(b"word")
                other.read_until(b"word")
                gateway.signal(signal.SIGTERM, group=True)
                gateway.signal(signal.SIGTERM, group=True)
                one.read_all()
                other.read_all()

            assert one.body.count(b"word ") == other.body.count(b"word ") == 20
            assert one.body.endswith(b"data: [DONE]\n\n")
            assert events(other.body)[-1].name == "complete"
            assert gateway.wait() == 0
            assert "Traceback" not in gateway.log()
