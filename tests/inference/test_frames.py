"""Answers as server-sent events, read back by a slow reader of the standard."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blueprints.frames import DONE, HEARTBEAT, NativeFrames, OpenAIFrames
from core.access.grant import Grant
from core.auth.caller import Caller
from core.catalog import Model, Tier
from core.errors import InvalidRequest, NodesFailed
from core.inference.completion import Completion, Usage
from core.inference.streaming import CompletionStream

MODEL = Model(id="a/b", name="", description="", tier=Tier.FREE, max_tokens=10, context_length=10)
GRANT = Grant("req_1_ab", Caller("0x" + "1" * 40), Tier.FREE, MODEL, 10, None)
COMPLETION = Completion(GRANT, 1_800_000_000, "", "length", Usage(3, 2, 5))
TEXT = st.text(st.sampled_from('ab \n\r\u2028\x85\x00":,안😀') | st.characters(codec="utf-8"), min_size=1, max_size=12)
PIECES = st.lists(st.lists(TEXT, min_size=1, max_size=3), max_size=5)


def events(body: bytes) -> list[dict[str, str]]:
    """Line by line as the standard has it (WHATWG HTML 9.2.6), nothing clever."""
    found: list[dict[str, str]] = []
    fields: dict[str, list[str]] = {}
    for line in re.split(r"\r\n|\r|\n", body.decode()):
        name, colon, value = line.partition(":")
        if line and name:
            fields.setdefault(name, []).append(value[1:] if colon and value.startswith(" ") else value)
        elif not line:
            if "data" in fields:
                found.append({name: "\n".join(values) for name, values in fields.items()})
            fields = {}
    assert not fields, "the last event is not ended"
    return found


def as_lines(text: str) -> str:
    """The text as any event stream carries it: every line end is a line feed."""
    return re.sub(r"\r\n|\r", "\n", text)


def openai_frames(*, chat: bool = True, include_usage: bool = False) -> OpenAIFrames:
    """The frames of one answer."""
    stream = cast("CompletionStream", SimpleNamespace(grant=GRANT, created=1_800_000_000))
    return OpenAIFrames(stream, chat=chat, include_usage=include_usage)


def written(frames: OpenAIFrames | NativeFrames, pieces: list[list[str]]) -> bytes:
    """A whole answer."""
    return b"".join([frames.start(), *map(frames.pieces, pieces), frames.end(COMPLETION)])


class TestNativeFrames:
    def test_look_as_the_former_services(self) -> None:
        frames = NativeFrames()

        assert frames.start() == b"\n"
        assert frames.pieces(["Hello"]) == b"id: 1\ndata: Hello\n\n"
        assert frames.pieces([" a\nb", "!"]) == b"id: 2\ndata:  a\ndata: b\n\nid: 3\ndata: !\n\n"

    def test_end_with_the_usage(self) -> None:
        [end] = events(NativeFrames().end(COMPLETION))

        assert (end["event"], end["id"]) == ("complete", "1")
        assert json.loads(end["data"]) == {
            "id": "req_1_ab",
            "model": "a/b",
            "finish_reason": "length",
            "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        }

    def test_tell_an_error_as_text(self) -> None:
        frames = NativeFrames()
        frames.pieces(["a"])

        assert frames.error(NodesFailed("It broke.")) == b"event: error\nid: 2\ndata: It broke.\n\n"
        assert frames.error(InvalidRequest(["a", "b"])) == b"event: error\nid: 3\ndata: a; b\n\n"

    @given(PIECES)
    def test_carry_any_text(self, pieces: list[list[str]]) -> None:
        sent = [piece for some in pieces for piece in some]
        *read, end = events(written(NativeFrames(), pieces))

        assert [event["data"] for event in read] == [as_lines(piece) for piece in sent]
        assert [int(event["id"]) for event in [*read, end]] == list(range(1, len(sent) + 2))
        assert all("event" not in event for event in read)


class TestOpenAIFrames:
    @pytest.mark.parametrize("include_usage", [False, True])
    @given(pieces=PIECES)
    def test_of_a_chat_carry_any_text(self, include_usage: bool, pieces: list[list[str]]) -> None:
        body = written(openai_frames(include_usage=include_usage), pieces)
        first, *chunks = self.chunks(body, include_usage=include_usage)
        sent = [piece for some in pieces for piece in some]

        assert first["choices"][0]["delta"] == {"role": "assistant", "content": ""}
        assert [chunk["choices"][0]["delta"] for chunk in chunks] == [*({"content": piece} for piece in sent), {}]
        assert all(chunk["object"] == "chat.completion.chunk" for chunk in [first, *chunks])
        assert first["id"] == "chatcmpl-req_1_ab"

    @pytest.mark.parametrize("include_usage", [False, True])
    @given(pieces=PIECES)
    def test_of_a_completion_carry_any_text(self, include_usage: bool, pieces: list[list[str]]) -> None:
        body = written(openai_frames(chat=False, include_usage=include_usage), pieces)
        chunks = self.chunks(body, include_usage=include_usage)

        assert [chunk["choices"][0]["text"] for chunk in chunks] == [*(piece for some in pieces for piece in some), ""]
        assert all(chunk["object"] == "text_completion" for chunk in chunks)
        assert chunks[0]["id"] == "cmpl-req_1_ab"

    @pytest.mark.parametrize("chat", [True, False])
    def test_tell_an_error_as_openai_does(self, chat: bool) -> None:
        [event] = events(openai_frames(chat=chat).error(NodesFailed("It broke.")))

        assert json.loads(event["data"]) == {
            "error": {"message": "It broke.", "type": "server_error", "param": None, "code": "nodes_failed"}
        }

    def test_a_heartbeat_and_the_end_mark_are_no_chunks(self) -> None:
        assert events(HEARTBEAT + HEARTBEAT) == []
        assert events(DONE) == [{"data": "[DONE]"}]

    def chunks(self, body: bytes, *, include_usage: bool) -> list[dict[str, Any]]:
        """All chunks with a choice; what is the same in every stream is checked here."""
        *read, done = events(body)
        chunks: list[dict[str, Any]] = [json.loads(event["data"]) for event in read]
        if include_usage:
            usage = chunks.pop()
            assert usage["choices"] == []
            assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
        assert done["data"] == "[DONE]"
        assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * (len(chunks) - 1) + ["length"]
        for chunk in chunks:
            assert (chunk["model"], chunk["created"]) == ("a/b", 1_800_000_000)
            assert chunk.get("usage", "absent") == (None if include_usage else "absent")
            assert chunk["choices"][0]["index"] == 0
        return chunks
