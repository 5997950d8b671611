"""An answer as server-sent events: one writer for each door's framing (WHATWG HTML, server-sent events)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

import msgspec

from blueprints.errors import openai_error
from blueprints.shapes import NativeEnd
from core.errors import GatewayError
from core.inference.completion import Completion, FinishReason, Usage
from core.inference.streaming import AnswerStream

HEARTBEAT = b": heartbeat\n\n"
DONE = b"data: [DONE]\n\n"
_NEWLINE = re.compile(r"\r\n|\r|\n")
_encode = msgspec.json.encode


class Frames(Protocol):
    """How one stream is written: a start, pieces, then an end or an error."""

    def start(self) -> bytes:
        """What leaves with the headers; b"" for nothing."""
        ...

    def pieces(self, pieces: Sequence[str]) -> bytes:
        """Text pieces, an event each."""
        ...

    def end(self, completion: Completion) -> bytes:
        """The last bytes of a whole answer."""
        ...

    def error(self, error: GatewayError) -> bytes:
        """The last bytes of one that broke off."""
        ...


class NativeFrames:
    """`/api/v1/inference/stream`: numbered events of plain text, then `event: complete` or `event: error`."""

    def __init__(self) -> None:
        self._number = 0

    def start(self) -> bytes:
        return b"\n"

    def pieces(self, pieces: Sequence[str]) -> bytes:
        return "".join(map(self._event, pieces)).encode()

    def end(self, completion: Completion) -> bytes:
        grant = completion.grant
        data = NativeEnd(grant.request_id, grant.model.id, completion.finish_reason, completion.told_usage)
        return b"event: complete\n" + self._event(_encode(data).decode()).encode()

    def error(self, error: GatewayError) -> bytes:
        return b"event: error\n" + self._event(error.text).encode()

    def _event(self, data: str) -> str:
        self._number += 1
        lines = _NEWLINE.sub("\ndata: ", data) if "\n" in data or "\r" in data else data
        return f"id: {self._number}\ndata: {lines}\n\n"


class OpenAIFrames:
    """`/v1` streams. The bytes around a piece's text are the same in all its chunks, so they are made once."""

    __slots__ = ("_after", "_before", "_chat", "_head", "_include_usage", "_tail")

    def __init__(self, stream: AnswerStream, *, chat: bool, include_usage: bool) -> None:
        kind, prefix = ("chat.completion.chunk", "chatcmpl") if chat else ("text_completion", "cmpl")
        head = {
            "id": f"{prefix}-{stream.grant.request_id}",
            "object": kind,
            "created": stream.created,
            "model": stream.grant.model.id,
        }
        self._chat = chat
        self._include_usage = include_usage
        self._head = b"data: " + _encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        delta = b'"delta":{"content":' if chat else b'"text":'
        self._before = self._head + b'{"index":0,' + delta
        self._after = (b"}" if chat else b"") + b',"logprobs":null,"finish_reason":null}' + self._tail

    def start(self) -> bytes:
        return self._choice(b'"delta":{"role":"assistant","content":""}', None) if self._chat else b""

    def pieces(self, pieces: Sequence[str]) -> bytes:
        before, after = self._before, self._after
        if len(pieces) == 1:
            return before + _encode(pieces[0]) + after
        return b"".join([before + _encode(piece) + after for piece in pieces])

    def end(self, completion: Completion) -> bytes:
        last = self._choice(b'"delta":{}' if self._chat else b'"text":""', completion.finish_reason)
        return last + (self._usage(completion.told_usage) if self._include_usage else b"") + DONE

    def error(self, error: GatewayError) -> bytes:
        return b"data: " + _encode(openai_error(error)) + b"\n\n"

    def _choice(self, content: bytes, finish_reason: FinishReason | None) -> bytes:
        reason = _encode(finish_reason)
        return self._head + b'{"index":0,' + content + b',"logprobs":null,"finish_reason":' + reason + b"}" + self._tail

    def _usage(self, usage: Usage) -> bytes:
        return self._head + b'],"usage":' + _encode(usage) + b"}\n\n"
