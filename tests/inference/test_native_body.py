"""The former service's request body: its complaints in its words and order, and what comes of a good one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequest
from core.inference.native_body import FIELDS, parse
from core.inference.requests import InferenceRequest, Message

GOOD: dict[str, Any] = {"model": "m", "prompt": "hi", "max_tokens": 8}
MODEL = ["model must be shorter than or equal to 100 characters", "model must be a string"]
MAX_TOKENS = [
    "max_tokens must not be greater than 4096",
    "max_tokens must not be less than 1",
    "max_tokens must be a number conforming to the specified constraints",
]
CONTENT = [
    "messages.0.content must be shorter than or equal to 32000 characters",
    "messages.0.content must be a string",
]
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def complaints(**changes: Any) -> str | list[str]:
    """What is said of a good body with these changes."""
    with pytest.raises(InvalidRequest) as refused:
        parse({**GOOD, **changes})
    return refused.value.message


class TestAGoodBody:
    def test_becomes_a_request_with_the_known_defaults(self) -> None:
        expected = InferenceRequest(model="m", prompt="hi", max_tokens=8, temperature=0.7, top_p=0.9)

        assert parse(GOOD) == expected
        assert parse({**GOOD, "temperature": None, "top_p": None, "stream": None, "messages": None}) == expected

    def test_a_zero_is_a_value(self) -> None:
        request = parse({**GOOD, "temperature": 0, "top_p": 0})

        assert (request.temperature, request.top_p) == (0.0, 0.0)

    def test_messages_come_in_order(self) -> None:
        chat = [{"role": "system", "content": ""}, {"role": "user", "content": "안녕"}]

        request = parse({"model": "m", "messages": chat, "max_tokens": 8.0})

        assert request.messages == (Message("system", ""), Message("user", "안녕"))
        assert request.is_chat
        assert request.max_tokens == 8

    def test_a_prompt_beside_messages_is_what_the_model_sees(self) -> None:
        assert not parse({**GOOD, "messages": []}).is_chat

    def test_no_messages_at_all_are_a_chat(self) -> None:
        assert parse({"model": "m", "messages": [], "max_tokens": 1}).messages == ()

    @pytest.mark.parametrize("length", [32_000])
    def test_the_longest_texts_pass(self, length: int) -> None:
        parse({**GOOD, "model": "m" * 100, "prompt": "😀" * length, "max_tokens": 4096})


class TestComplaints:
    @pytest.mark.parametrize("value", [None, 5, ["m"], {}])
    def test_of_the_model(self, value: Any) -> None:
        assert complaints(model=value) == MODEL

    @pytest.mark.parametrize("value", [None, "8", True, [], {}, "NaN"])
    def test_of_max_tokens_that_is_no_number(self, value: Any) -> None:
        assert complaints(max_tokens=value) == MAX_TOKENS

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("max_tokens", 4097, "max_tokens must not be greater than 4096"),
            ("max_tokens", 0, "max_tokens must not be less than 1"),
            ("max_tokens", 1.5, "max_tokens must be an integer number"),
            ("temperature", 3, "temperature must not be greater than 2"),
            ("temperature", -0.1, "temperature must not be less than 0"),
            ("top_p", 1.5, "top_p must not be greater than 1"),
            ("stream", "yes", "stream must be a boolean value"),
            ("stream", 1, "stream must be a boolean value"),
            ("messages", {}, "messages must be an array"),
            ("messages", "hi", "messages must be an array"),
            ("messages", ["hi"], "each value in nested property messages must be either object or array"),
            ("prompt", "x" * 32_001, "prompt must be shorter than or equal to 32000 characters"),
            ("model", "x" * 101, "model must be shorter than or equal to 100 characters"),
            ("n", 1, "property n should not exist"),
        ],
    )
    def test_of_one_thing(self, name: str, value: Any, message: str) -> None:
        assert complaints(**{name: value}) == [message]

    def test_of_messages_name_the_place(self) -> None:
        role = "messages.1.role must be one of the following values: system, user, assistant"
        good = {"role": "user", "content": "x"}

        assert complaints(messages=[{"role": "user"}]) == CONTENT
        assert complaints(messages=[{"role": "user", "content": [{"type": "text", "text": "x"}]}]) == CONTENT
        assert complaints(messages=[good, {"role": "tool", "content": "x"}]) == [role]
        assert complaints(messages=[{**good, "name": "bob"}]) == ["messages.0.property name should not exist"]

    def test_of_too_many_messages(self) -> None:
        good = {"role": "user", "content": "x"}

        assert complaints(messages=[good] * 257) == ["messages must contain no more than 256 elements"]
        assert len(parse({**GOOD, "messages": [good] * 256}).messages or ()) == 256

    def test_of_everything_at_once_come_in_the_known_order(self) -> None:
        assert complaints(model=5, prompt=7, max_tokens="x", temperature=9, zzz=1) == [
            "property zzz should not exist",
            *MODEL,
            "prompt must be shorter than or equal to 32000 characters",
            "prompt must be a string",
            *MAX_TOKENS,
            "temperature must not be greater than 2",
        ]

    @pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": None, "messages": None}])
    def test_of_nothing_to_answer(self, body: dict[str, Any]) -> None:
        with pytest.raises(InvalidRequest) as refused:
            parse({"model": "m", "max_tokens": 4, **body})

        assert refused.value.message == "Either prompt or messages must be provided"

    @given(st.dictionaries(st.sampled_from([*FIELDS, "zzz"]), ANYTHING))
    def test_any_object_is_a_request_or_refused(self, body: dict[str, Any]) -> None:
        with suppress(InvalidRequest):
            request = parse(body)
            assert 1 <= (request.max_tokens or 0) <= 4096
            assert 0 <= request.temperature <= 2
            assert 0 <= request.top_p <= 1
