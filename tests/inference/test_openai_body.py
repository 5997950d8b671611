"""OpenAI's request bodies: what of them is served, what is ignored, and which field a complaint names."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.inference.openai_body import parse_chat, parse_completion
from core.inference.requests import Message

CHAT: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
PROMPT: dict[str, Any] = {"model": "m", "prompt": "hi"}
FIELDS = ["model", "messages", "prompt", "max_tokens", "temperature", "top_p", "n", "stop", "stream", "stream_options"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def encoded(base: dict[str, Any], **changes: Any) -> bytes:
    """The body as it is sent; a change of `...` leaves the field out."""
    return json.dumps({name: value for name, value in {**base, **changes}.items() if value is not ...}).encode()


def refused(**changes: Any) -> InvalidRequest:
    """What is said of a good chat with these changes."""
    with pytest.raises(InvalidRequest) as error:
        parse_chat(encoded(CHAT, **changes))
    return error.value


class TestAChat:
    def test_has_the_known_defaults(self) -> None:
        asked = parse_chat(encoded(CHAT))

        assert (asked.stream, asked.include_usage) == (False, False)
        assert asked.inference.messages == (Message("user", "hi"),)
        assert asked.inference.max_tokens is None
        assert (asked.inference.temperature, asked.inference.top_p, asked.inference.stop) == (0.7, 0.9, ())

    @pytest.mark.parametrize("name", ["max_tokens", "temperature", "top_p", "n", "stop", "stream", "stream_options"])
    def test_takes_null_as_not_given(self, name: str) -> None:
        assert parse_chat(encoded(CHAT, **{name: None})) == parse_chat(encoded(CHAT))

    def test_keeps_a_zero(self) -> None:
        asked = parse_chat(encoded(CHAT, temperature=0, top_p=0)).inference

        assert (asked.temperature, asked.top_p) == (0, 0)

    def test_is_limited_by_the_newer_name_first(self) -> None:
        both = parse_chat(encoded(CHAT, max_tokens=9, max_completion_tokens=5))

        assert both.inference.max_tokens == 5
        assert parse_chat(encoded(CHAT, max_completion_tokens=5)).inference.max_tokens == 5
        assert parse_chat(encoded(CHAT, max_tokens=9)).inference.max_tokens == 9

    @pytest.mark.parametrize(("stop", "expected"), [("a", ("a",)), (["a", "b"], ("a", "b")), ([], ()), (None, ())])
    def test_takes_one_stop_sequence_or_several(self, stop: Any, expected: tuple[str, ...]) -> None:
        assert parse_chat(encoded(CHAT, stop=stop)).inference.stop == expected

    def test_joins_text_parts_by_lines(self) -> None:
        parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
        asked = parse_chat(encoded(CHAT, messages=[{"role": "user", "content": parts}]))

        assert asked.inference.messages == (Message("user", "a\nb"),)

    def test_hears_a_developer_as_the_system(self) -> None:
        asked = parse_chat(encoded(CHAT, messages=[{"role": "developer", "content": "x"}]))

        assert asked.inference.messages == (Message("system", "x"),)

    def test_takes_a_silent_assistant(self) -> None:
        silent: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": []}

        assert parse_chat(encoded(CHAT, messages=[silent])).inference.messages == (Message("assistant", ""),)

    def test_ignores_fields_that_we_do_not_serve(self) -> None:
        extra = {"user": "u", "seed": 1, "logit_bias": {}, "tools": [], "frequency_penalty": 1, "messages.0": 1}
        named = [{"role": "user", "content": "hi", "name": "bob"}]

        assert parse_chat(encoded(CHAT, messages=named, **extra)) == parse_chat(encoded(CHAT))

    def test_says_how_it_is_to_be_sent(self) -> None:
        asked = parse_chat(encoded(CHAT, stream=True, stream_options={"include_usage": True}))

        assert (asked.stream, asked.include_usage) == (True, True)


class TestAChatIsRefused:
    @pytest.mark.parametrize(
        ("changes", "param"),
        [
            ({"n": 2}, "n"),
            ({"n": 0}, "n"),
            ({"model": ...}, "model"),
            ({"model": 5}, "model"),
            ({"model": ""}, "model"),
            ({"messages": ...}, "messages"),
            ({"messages": []}, "messages"),
            ({"messages": [{"role": "user", "content": "x"}] * 257}, "messages"),
            ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
            ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
            ({"max_tokens": 0}, "max_tokens"),
            ({"max_tokens": 1.5}, "max_tokens"),
            ({"max_tokens": "8"}, "max_tokens"),
            ({"max_completion_tokens": -1}, "max_completion_tokens"),
            ({"temperature": 2.1}, "temperature"),
            ({"top_p": -1}, "top_p"),
            ({"stop": ["a"] * 5}, "stop"),
            ({"stop": ""}, "stop"),
            ({"stream": "yes"}, "stream"),
        ],
    )
    def test_with_the_name_of_the_field(self, changes: dict[str, Any], param: str) -> None:
        error = refused(**changes)

        assert (error.status, error.openai_status) == (400, None)
        assert (error.param or "").split("[...]")[0] == param.split("[0]", maxsplit=1)[0] or error.param == param

    def test_for_a_part_that_is_no_text(self) -> None:
        image = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
        error = refused(messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, image]}])

        assert error.param == "messages[0].content[1]"
        assert "only parts of type 'text'" in error.text

    def test_when_its_parts_together_are_too_long(self) -> None:
        parts = [{"type": "text", "text": "x" * 20_000}] * 2

        assert refused(messages=[{"role": "user", "content": parts}]).param == "messages"

    @pytest.mark.parametrize("body", [b"", b"null", b'"x"', b"[]", b'{"model":', b"[" * 1000, b"\xff\xfe"])
    def test_when_it_is_no_object_at_all(self, body: bytes) -> None:
        with pytest.raises(InvalidRequest):
            parse_chat(body)

    @pytest.mark.parametrize("model", [b"NaN", b"1e999", rb'"\ud800"', b'"\xff"'])
    def test_when_it_is_not_quite_json(self, model: bytes) -> None:
        with pytest.raises(InvalidRequest):
            parse_chat(b'{"messages":[],"model":' + model + b"}")

    @given(st.dictionaries(st.sampled_from([*FIELDS, "zzz"]), ANYTHING))
    def test_and_nothing_worse_for_any_object(self, body: dict[str, Any]) -> None:
        for parse in (parse_chat, parse_completion):
            with suppress(InvalidRequest):
                asked = parse(json.dumps(body).encode()).inference
                assert asked.max_tokens is None or asked.max_tokens >= 1

    @given(st.binary(max_size=200))
    def test_and_nothing_worse_for_any_bytes(self, body: bytes) -> None:
        with suppress(InvalidRequest):
            parse_chat(body)


class TestATextCompletion:
    @pytest.mark.parametrize("prompt", ["hi", ["hi"]])
    def test_takes_one_prompt(self, prompt: Any) -> None:
        asked = parse_completion(encoded(PROMPT, prompt=prompt, max_tokens=4)).inference

        assert (asked.prompt, asked.messages, asked.max_tokens, asked.is_chat) == ("hi", None, 4, False)

    @pytest.mark.parametrize("prompt", [..., "", [""], [], ["a", "b"], [1, 2], 5, None, "x" * 32_001])
    def test_takes_nothing_else(self, prompt: Any) -> None:
        with pytest.raises(InvalidRequest) as error:
            parse_completion(encoded(PROMPT, prompt=prompt))

        assert (error.value.param or "").startswith("prompt")
