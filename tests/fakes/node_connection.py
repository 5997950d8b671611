"""One client's connection to a scripted node: parses requests, answers them as the script says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, cast

import httptools

from tests.fakes.node_script import BAD_EVENTS, PATHS, STATUS_FAULTS, Fault, Reply, Seen

if TYPE_CHECKING:
    from tests.fakes.node_server import NodeServer

ADDRESS = "0xE239CDc5fbE977a8a141B72194D3CF8c41bC5BC6"
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Connection(asyncio.Protocol):
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


def _event(body: object) -> bytes:
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
