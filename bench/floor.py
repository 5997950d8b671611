"""
What no gateway of this stack can cost less than, in three steps: `-m bench.floor STEP PORT NODE_PORT`.

`bytes` passes bytes from socket to socket: the event loop alone. `events` also takes the node's answer apart and
writes it anew, as any relay of a metered protocol must. `web` is Sanic alone: it gives one fixed answer.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, cast

import msgspec
import uvloop
from httptools import HttpResponseParser
from sanic import HTTPResponse, Request, Sanic
from sanic.response import raw

from bench.scenarios import MODEL
from core.nodes.transport.answers import CHUNK
from core.nodes.transport.sse import EventFraming

STEP, PORT, NODE_PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
BEFORE = (
    f'data: {{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"{MODEL}",'
    '"choices":[{"index":0,"delta":{"content":'
).encode()
AFTER = b'},"logprobs":null,"finish_reason":null}]}\n\n'
ANSWER = (
    f'{{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"{MODEL}","choices":[{{"index":0,'
    '"message":{"role":"assistant","content":"A pair of keys."},"logprobs":null,"finish_reason":"stop"}],'
    '"usage":{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13}}'
).encode()


class Side(asyncio.Protocol):
    """One of the two connections of a pair: what comes in goes out of the other."""

    __slots__ = ("early", "other", "transport")
    transport: asyncio.Transport

    def __init__(self) -> None:
        self.early: list[bytes] = []  # came before there was another side
        self.other: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early.append(data)
        else:
            self.passed(data, self.other)

    def passed(self, data: bytes, other: asyncio.Transport) -> None:
        """Nobody looks at it."""
        other.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.other is not None:
            self.other.abort()

    def join(self, other: asyncio.Transport) -> None:
        """From now on all that comes goes there."""
        self.other = other
        other.writelines(self.early)


class NodeSide(Side):
    """Takes a stream apart, down to the text, and writes it anew."""

    __slots__ = ("framing", "parser")

    def passed(self, data: bytes, other: asyncio.Transport) -> None:
        if data.startswith(b"HTTP/"):  # the mock node sends no head behind something else
            self.parser, self.framing = HttpResponseParser(self), EventFraming()
            other.write(data[: data.index(b"\r\n\r\n") + 4])
        self.parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        """Of the parser."""
        events = b"".join(map(self._event, self.framing.feed(body)))
        if events and self.other is not None:
            self.other.write(b"%x\r\n%b\r\n" % (len(events), events))

    def on_message_complete(self) -> None:
        """Of the parser."""
        if self.other is not None:
            self.other.write(b"0\r\n\r\n")

    def _event(self, data: bytes) -> bytes:
        if data == b"[DONE]":
            return b"data: [DONE]\n\n"
        choices = CHUNK.decode(data).choices
        text = choices[0].delta.content if choices and choices[0].delta else ""
        return BEFORE + msgspec.json.encode(text) + AFTER


class ClientSide(Side):
    """Opens a connection to the node, of its own."""

    __slots__ = ("opening",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        kind = NodeSide if STEP == "events" else Side
        transport, node = await asyncio.get_running_loop().create_connection(kind, "127.0.0.1", NODE_PORT)
        node.join(self.transport)
        self.join(transport)


async def relay() -> None:
    """Serves until it is stopped."""
    server = await asyncio.get_running_loop().create_server(ClientSide, "127.0.0.1", PORT, backlog=1024)
    await server.serve_forever()


def web() -> None:
    """The same."""
    app: Sanic[Any, Any] = Sanic("floor", configure_logging=False)

    @app.post("/v1/chat/completions")
    async def answer(_: Request) -> HTTPResponse:
        return raw(ANSWER, content_type="application/json")

    app.run("127.0.0.1", PORT, single_process=True, access_log=False, motd=False)


if __name__ == "__main__":
    if STEP == "web":
        web()
    else:
        uvloop.run(relay())
