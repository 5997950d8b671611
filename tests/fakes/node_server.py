"""
A scripted inference node: a true HTTP server that speaks as Petals, plumise-agent or llama-server, and misbehaves.

In a test:            `async with NodeServer(kind="agent", answers=["Hello there"]) as node: ... node.url`
As its own process:   `python -m tests.fakes.node_server --kind openai --port 0 --answer "Hello"` prints its URL;
                      GET /_state tells what it saw, POST /_script changes `answers`, `fault`, `after`, `delay_s`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self, cast

import httptools

HELLO = "Hello from the node."
ADDRESS = "0xE239CDc5fbE977a8a141B72194D3CF8c41bC5BC6"
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Fault(StrEnum):
    """How a node misbehaves; `after` tokens were sent before, where that makes sense."""

    REFUSE = "refuse"  # the connection is reset as soon as it is there
    DROP_REUSED = "drop-reused"  # closed without a byte when a second request comes over one connection
    ERROR = "500"
    LOADING = "503"
    STATUS_LOADING = "status-loading"  # /health is 200 and says so; generating is 503
    HEALTH_STALL = "health-stall"  # only /health hangs: the node is busy
    INVALID = "422"
    OVERFLOW = "400"  # the prompt does not fit into the context
    UNAUTHORISED = "401"
    REDIRECT = "redirect"
    STALL_FIRST = "stall-first"
    STALL_BETWEEN = "stall-between"
    CUT_LINE = "cut-line"
    CUT_UTF8 = "cut-utf8"
    NO_END = "no-end"  # all tokens, a clean end of the body, but no end mark
    GARBAGE = "garbage"  # well framed, but not JSON
    NOT_HTTP = "not-http"
    NOT_UTF8 = "not-utf8"
    GIANT_LINE = "giant-line"
    GIANT_HEAD = "giant-head"
    ENDLESS = "endless"
    ERROR_EVENT = "error-event"
    JSON_ANYWAY = "json-anyway"  # one JSON answer although a stream was asked for
    EMPTY = "empty"
    COMPRESSED = "compressed"


@dataclass
class Seen:
    """A request as it came in."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int  # which connection it came over, counted from 1


@dataclass
class Reply:
    """What the script says for one request."""

    tokens: list[str]
    finish: str
    stream: bool
    chat: bool
    usage: bool
    prompt_tokens: int


@dataclass
class NodeServer:
    """One node. Change its attributes at any time; the next request follows them."""

    kind: str = "petals"  # petals, agent or openai
    model: str = "bigscience/bloom-560m"
    answers: Sequence[str | Sequence[str]] = (HELLO,)  # texts, or lists of tokens; one a request, the last repeats
    fault: str | None = None
    after: int = 1
    delay_s: float = 0.0  # before each token
    mode: str = "pipeline"  # an agent's; "single" sends one token event
    secret: str | None = None
    port: int = 0
    split: int = 0  # writes of so many bytes each; 0 writes whole events
    close: bool = False  # answers with Connection: close
    health: dict[str, Any] | None = None  # instead of the usual /health
    tls: ssl.SSLContext | None = None
    reasoning: bool = False  # openai: reasoning_content before the text

    requests: list[Seen] = field(default_factory=list)
    accepted: int = 0  # connections, ever
    working: int = 0  # answers being made now
    left: int = 0  # answers whose client went away
    connections: set[_Connection] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        """The address that it listens on."""
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def generated(self) -> list[Seen]:
        """The requests that asked for an answer."""
        return [seen for seen in self.requests if seen.method == "POST"]

    async def start(self) -> None:
        """Listens; on a restart, on the same port."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stops listening and cuts what is open: from here on it refuses connections."""
        if self._server is not None:
            self._server.close()
            for connection in list(self.connections):
                connection.transport.abort()
            await self._server.wait_closed()
            while self.connections:
                await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def idle(self, within_s: float = 1.0) -> None:
        """Waits until no answer is being made. Raises TimeoutError."""
        async with asyncio.timeout(within_s):
            while self.working:
                await asyncio.sleep(0.005)

    def reply(self, seen: Seen) -> Reply:
        """What the script has for this request, within its token limit and stop sequences."""
        body, turn = seen.body, [seen is one for one in self.generated].index(True)
        answer = self.answers[min(turn, len(self.answers) - 1)]
        limit = body.get("max_tokens") or (body.get("parameters") or {}).get("max_new_tokens") or 128
        tokens = re.findall(r"\s*\S+|\s+$", answer) if isinstance(answer, str) else list(answer)
        finish = "length" if len(tokens) > limit else "stop"
        tokens = _stopped(tokens[:limit], body.get("stop") or [])
        if self.fault == Fault.EMPTY:
            tokens = []
        return Reply(
            tokens,
            finish,
            stream=bool(body.get("stream")) and self.kind != "petals" and self.fault != Fault.JSON_ANYWAY,
            chat="messages" in body,
            usage=bool((body.get("stream_options") or {}).get("include_usage")),
            prompt_tokens=len(json.dumps(body.get("messages") or body.get("inputs") or body.get("prompt")).split()),
        )

    def state(self) -> dict[str, Any]:
        """What /_state tells."""
        return {
            "url": self.url,
            "requests": [vars(seen) for seen in self.requests],
            "accepted": self.accepted,
            "working": self.working,
            "left": self.left,
            "open": len(self.connections),
        }


class _Connection(asyncio.Protocol):
    """One client connection, one request at a time."""

    transport: asyncio.Transport

    def __init__(self, node: NodeServer) -> None:
        self.node = node
        self.parser = httptools.HttpRequestParser(self)
        self.task: asyncio.Task[None] | None = None
        self.served = 0
        self._path, self._headers, self._body = b"", dict[str, str](), b""

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.node.accepted += 1
        self.number = self.node.accepted
        self.node.connections.add(self)
        if self.node.fault == Fault.REFUSE:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(httptools.HttpParserError):
            self.parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.node.connections.discard(self)
        if self.task is not None:
            self.task.cancel()

    # the parser's side

    def on_url(self, url: bytes) -> None:
        self._path += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body = json.loads(self._body) if self._body else {}
        seen = Seen(self.parser.get_method().decode(), self._path.decode(), self._headers, body, self.number)
        self._path, self._headers, self._body = b"", {}, b""
        self.served += 1
        if self.served > 1 and self.node.fault == Fault.DROP_REUSED:
            self.transport.close()
            return
        if not seen.path.startswith("/_"):
            self.node.requests.append(seen)
        self.task = asyncio.ensure_future(self._serve(seen))

    # answering

    async def _serve(self, seen: Seen) -> None:
        generates = seen.method == "POST" and not seen.path.startswith("/_")
        self.node.working += generates
        try:
            await self._answer(seen)
        except asyncio.CancelledError:
            self.node.left += generates
            raise
        finally:
            self.node.working -= generates
            self.task = None
        if self.node.close:
            self.transport.close()

    async def _answer(self, seen: Seen) -> None:
        node = self.node
        if seen.path.startswith("/_"):
            self._control(seen)
        elif seen.path == "/health":
            await self._health()
        elif node.secret and seen.headers.get("authorization") != f"Bearer {node.secret}":
            self._json(401, {"detail": "Invalid token"})
        elif seen.path == "/v1/models" and node.kind == "openai":
            self._json(200, {"object": "list", "data": [{"id": node.model, "object": "model"}]})
        elif seen.method == "POST" and seen.path in PATHS[node.kind]:
            await self._generate(node.reply(seen))
        else:
            self._json(404, {"detail": "Not Found"})

    def _control(self, seen: Seen) -> None:
        if seen.method == "POST":
            vars(self.node).update(seen.body)
        self._json(200, self.node.state())

    async def _health(self) -> None:
        node = self.node
        loading = node.fault == Fault.STATUS_LOADING
        if node.fault == Fault.HEALTH_STALL:
            await asyncio.sleep(3600)
        if node.fault in (Fault.ERROR, Fault.LOADING):
            return self._json(int(node.fault), {"detail": "Model is still loading"})
        if node.health is not None:
            return self._json(200, node.health)
        if node.kind == "openai":
            error = {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}
            return self._json(503, error) if loading else self._json(200, {"status": "ok"})
        about: dict[str, Any] = {"status": "loading" if loading else "ok", "model": node.model}
        if node.kind == "agent":
            about |= {"mode": node.mode, "address": ADDRESS, "uptime": 12}
        return self._json(200, about)

    async def _generate(self, reply: Reply) -> None:
        fault = self.node.fault
        if fault == Fault.STALL_FIRST:
            await asyncio.sleep(3600)
        if fault in STATUS_FAULTS:
            status, detail = STATUS_FAULTS[Fault(fault)]
            about: dict[str, Any] = {"code": status, "message": detail, "type": "invalid_request_error"}
            return self._json(status, {"error": about} if self.node.kind == "openai" else {"detail": detail})
        if fault == Fault.REDIRECT:
            return self._write(b"HTTP/1.1 307 T\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
        if fault == Fault.NOT_HTTP:
            return self._write(b"\x16\x03\x01 this is no HTTP\r\n\r\n")
        if fault == Fault.GIANT_HEAD:
            return self._write(b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: %s\r\n" % (i, b"y" * 999) for i in range(300)))
        if reply.stream:
            return await self._stream(reply)
        return await self._whole(reply)

    async def _whole(self, reply: Reply) -> None:
        await asyncio.sleep(self.node.delay_s * len(reply.tokens))
        fault, text = self.node.fault, "".join(reply.tokens)
        usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": len(reply.tokens)}
        usage["total_tokens"] = sum(usage.values())
        if self.node.kind == "openai":
            content: dict[str, Any] = (
                {"message": {"role": "assistant", "content": text}} if reply.chat else {"text": text}
            )
            answer: dict[str, Any] = {
                "choices": [{"index": 0, "finish_reason": reply.finish, **content}],
                "usage": usage,
            }
        else:
            answer = {"generated_text": text, "num_tokens": len(reply.tokens)}
        if fault == Fault.ERROR_EVENT:
            answer = {"error": {"message": "CUDA out of memory"}}
        raw = json.dumps(answer, ensure_ascii=False).encode()
        await self._whole_or_worse(raw)

    async def _whole_or_worse(self, raw: bytes) -> None:
        fault = self.node.fault
        if fault in (Fault.GARBAGE, Fault.NOT_UTF8):
            raw = b"<html>busy</html>" if fault == Fault.GARBAGE else raw.replace(b'": "', b'": "\xff\xfe', 1)
        if fault in (Fault.GIANT_LINE, Fault.ENDLESS):
            raw = b'{"generated_text": "' + b"a" * 2_000_000 + b'"}'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        if fault == Fault.COMPRESSED:
            head += b"Content-Encoding: gzip\r\n"
        if fault == Fault.NO_END:
            head += b"Connection: close\r\n\r\n"
        else:
            head += (b"Connection: close\r\n" if self.node.close else b"") + b"Content-Length: %d\r\n\r\n" % len(raw)
        if fault in (Fault.CUT_LINE, Fault.CUT_UTF8, Fault.NO_END, Fault.STALL_BETWEEN):
            self._write(head + raw[: len(raw) // 2])
            if fault == Fault.STALL_BETWEEN:
                await asyncio.sleep(3600)
            self.transport.close()
        else:
            await self._send(head + raw)

    async def _stream(self, reply: Reply) -> None:
        node = self.node
        head = SSE_HEAD
        if node.fault == Fault.COMPRESSED:
            head = head.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        self._write(head.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n") if node.close else head)
        events = self._events(reply)
        for count, event in enumerate(events):
            if node.delay_s:
                await asyncio.sleep(node.delay_s)
            if count == node.after and await self._fault(event):
                return
            await self._send(_chunk(event))
        if len(events) <= node.after and await self._fault(events[-1] if events else b"data: {}\n\n"):
            return
        if node.fault == Fault.NO_END:
            self._write(b"0\r\n\r\n")
            return
        if reply.usage and node.kind == "openai":
            count = len(reply.tokens)
            usage = {"prompt_tokens": reply.prompt_tokens, "completion_tokens": count}
            usage["total_tokens"] = sum(usage.values())
            await self._send(_chunk(_event({"choices": [], "usage": usage})))
        await self._send(_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    def _events(self, reply: Reply) -> list[bytes]:
        if self.node.kind == "agent":
            whole = self.node.mode == "single" and reply.tokens
            return [_event({"token": token}) for token in (["".join(reply.tokens)] if whole else reply.tokens)]
        choices: list[dict[str, Any]] = [
            {"finish_reason": None, **({"delta": {"content": token}} if reply.chat else {"text": token})}
            for token in reply.tokens
        ]
        if self.node.reasoning:
            choices.insert(0, {"finish_reason": None, "delta": {"content": None, "reasoning_content": "hmm"}})
        last: dict[str, Any] = {"finish_reason": reply.finish, **({"delta": {}} if reply.chat else {"text": ""})}
        return [
            _event({"choices": [{"index": 0, **choice}], "id": "chatcmpl-1", "object": "chat.completion.chunk"})
            for choice in [*choices, last]
        ]

    async def _fault(self, event: bytes) -> bool:
        """Misbehaves in the middle of a stream; True when the answer ends with that."""
        fault, message = self.node.fault, "CUDA out of memory at /opt/model"
        error: dict[str, Any] = {"error": {"code": 500, "message": message} if self.node.kind == "openai" else message}
        if fault == Fault.STALL_BETWEEN:
            await asyncio.sleep(3600)
        elif fault == Fault.ENDLESS:
            while True:
                await self._send(_chunk(event))
                await asyncio.sleep(0)
        elif fault in (Fault.CUT_LINE, Fault.CUT_UTF8):
            letter = '{"token": "안'.encode()[:-1] if fault == Fault.CUT_UTF8 else b'{"tok'
            self._write(_chunk(b"data: " + letter))
            self.transport.close()
        elif fault in BAD_EVENTS:
            await self._send(_chunk(BAD_EVENTS[Fault(fault)]) + b"0\r\n\r\n")
        elif fault == Fault.ERROR_EVENT:
            await self._send(_chunk(_event(error)) + b"0\r\n\r\n")
        else:
            return False
        return True

    # writing

    def _json(self, status: int, body: object) -> None:
        raw = json.dumps(body).encode()
        head = "HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._write((head % (status, len(raw))).encode() + raw)

    def _write(self, data: bytes) -> None:
        self.transport.write(data)

    async def _send(self, data: bytes) -> None:
        """Writes in pieces of `split` bytes, each its own segment."""
        step = self.node.split or len(data)
        for start in range(0, len(data), step):
            self._write(data[start : start + step])
            if self.node.split or self.transport.get_write_buffer_size() > 1_000_000:
                await asyncio.sleep(0.001)


PATHS = {
    "petals": ("/api/v1/generate",),
    "agent": ("/api/v1/generate",),
    "openai": ("/v1/chat/completions", "/v1/completions"),
}
STATUS_FAULTS = {
    Fault.ERROR: (500, "Inference error: CUDA out of memory at /opt/model"),
    Fault.LOADING: (503, "Model is still loading"),
    Fault.STATUS_LOADING: (503, "Model is still loading"),
    Fault.INVALID: (422, "ensure this value is less than or equal to 4096"),
    Fault.OVERFLOW: (400, "the request exceeds the available context size (2048 tokens)"),
    Fault.UNAUTHORISED: (401, "Invalid token"),
}
BAD_EVENTS = {
    Fault.GARBAGE: b"data: <html>busy</html>\n\n",
    Fault.NOT_UTF8: b'data: {"token": "\xff\xfe"}\n\n',
    Fault.GIANT_LINE: b"data: " + b"a" * 200_000 + b"\n\n",
}


def _stopped(tokens: list[str], stops: list[str]) -> list[str]:
    """The tokens up to the first stop sequence, as llama-server cuts them."""
    text = "".join(tokens)
    end = min((text.find(stop) for stop in stops if stop in text), default=len(text))
    kept = []
    for token in tokens:
        kept.append(token[:end])
        end -= len(kept[-1])
    return [token for token in kept if token]


def _event(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def main() -> None:
    """Serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description="A scripted inference node")
    parser.add_argument("--kind", choices=sorted(PATHS), default="petals")
    parser.add_argument("--model", default="bigscience/bloom-560m")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--answer", action="append", help="may be given several times: one a request, the last repeats")
    parser.add_argument("--fault", choices=[fault.value for fault in Fault])
    parser.add_argument("--after", type=int, default=1)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--mode", choices=["pipeline", "single"], default="pipeline")
    parser.add_argument("--secret")
    args = parser.parse_args()
    node = NodeServer(
        kind=args.kind,
        model=args.model,
        answers=args.answer or (HELLO,),
        fault=args.fault,
        after=args.after,
        delay_s=args.delay,
        mode=args.mode,
        secret=args.secret,
        port=args.port,
    )
    asyncio.run(_serve_until_told(node))


async def _serve_until_told(node: NodeServer) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with node:
        print(node.url, flush=True)
        await stop.wait()


if __name__ == "__main__":
    main()
