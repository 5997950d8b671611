"""Bytes to fields: what is a body, and what is said of those that are none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.body import FORM, JSON, MAX_DEPTH, decode_json, decode_object, limit_depth
from core.errors import InvalidRequest

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def refusal(body: bytes) -> str:
    """What the sender of an unreadable body is told."""
    with pytest.raises(InvalidRequest) as refused:
        decode_object(body, JSON)
    return refused.value.text


def depth(value: Any) -> int:
    """How deep a value's lists and objects are nested."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


class TestJson:
    @given(st.dictionaries(st.text(), VALUES, max_size=5))
    def test_comes_as_it_was_sent(self, sent: dict[str, Any]) -> None:
        assert decode_object(json.dumps(sent).encode(), "Application/JSON; charset=utf-8") == sent

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"address":', "Unexpected end of JSON input"),
            (b'"x"', 'Unexpected token \'"\', ""x"" is not valid JSON'),
            (b"null", "Unexpected token 'n', \"null\" is not valid JSON"),
            (b"  5", "Unexpected token '5', \"5\" is not valid JSON"),
            (b"true and more than that", "Unexpected token 't', \"true and m...\" is not valid JSON"),
            (
                "안녕하세요 반갑습니다 여러분".encode(),
                "Unexpected token '안', \"안녕하세요 반갑습니...\" is not valid JSON",
            ),
        ],
    )
    def test_that_is_no_object_is_refused_in_the_known_words(self, body: bytes, message: str) -> None:
        assert refusal(body) == message

    @pytest.mark.parametrize(
        "value",
        [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b"01", b"0x1", b"'a'", b"undefined", b"[1,]"],
    )
    def test_that_is_not_quite_json_is_refused(self, value: bytes) -> None:
        assert refusal(b'{"a":' + value + b"}")

    @pytest.mark.parametrize("value", [rb"\ud800", rb"\udc00 ", b"\xff", b"\xed\xa0\x80", b"\x01"])
    def test_a_text_that_is_no_unicode_is_refused(self, value: bytes) -> None:
        assert refusal(b'{"a":"' + value + b'"}')

    @given(st.binary(max_size=200))
    def test_garbage_is_read_or_refused_and_nothing_else(self, body: bytes) -> None:
        for kind in (JSON, FORM, "text/plain"):
            try:
                assert isinstance(decode_object(body, kind), dict)
            except InvalidRequest as refused:
                refused.text.encode()

    @pytest.mark.parametrize("body", [b"[]", b'[{"a":1}]', b"", b"  \n"])
    def test_without_fields_has_no_fields(self, body: bytes) -> None:
        assert decode_object(body, JSON) == {}

    def test_of_another_content_type_has_no_fields(self) -> None:
        assert decode_object(b'{"a":1}', "text/plain") == {}
        assert decode_object(b'{"a":1}', "") == {}


class TestForm:
    def test_fields_are_decoded(self) -> None:
        assert decode_object(b"a=1&b=%EC%95%88&c=", FORM) == {"a": "1", "b": "안", "c": ""}

    def test_with_too_many_fields_is_refused(self) -> None:
        with pytest.raises(InvalidRequest):
            decode_object(b"a=1&" * 101, FORM)


class TestDepth:
    @given(VALUES)
    def test_is_counted_as_a_slow_reader_counts_it(self, value: Any) -> None:
        wrapped = value
        for _ in range(MAX_DEPTH - 3):
            wrapped = [wrapped]
        raw = json.dumps(wrapped).encode()

        if depth(wrapped) > MAX_DEPTH:
            with pytest.raises(InvalidRequest, match="nested deeper"):
                limit_depth(raw)
        else:
            limit_depth(raw)

    def test_brackets_within_a_text_do_not_count(self) -> None:
        limit_depth(json.dumps({"a": "[{" * 1000 + '\\"' + "[" * 1000}).encode())

    @pytest.mark.parametrize("text", ["\\", '\\"', '"', '\\\\"[', '["', "\\u005b"])
    def test_nor_do_quotes_within_a_text_hide_what_is_outside(self, text: str) -> None:
        limit_depth(json.dumps([text + "[" * 100, text]).encode())
        deep: Any = text
        for _ in range(MAX_DEPTH + 1):
            deep = [text, deep]
        with pytest.raises(InvalidRequest, match="nested deeper"):
            limit_depth(json.dumps(deep).encode())

    @pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"":'])
    def test_a_tower_of_brackets_is_refused_before_it_is_parsed(self, opening: bytes) -> None:
        with pytest.raises(InvalidRequest, match="nested deeper than 32 levels"):
            decode_json(opening * 100_000)
