"""Request bodies: bytes to a plain object, with the former service's words for what can't be read."""

from __future__ import annotations

from itertools import accumulate
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from core.errors import InvalidRequest

MAX_DEPTH = 32
MAX_FIELDS = 100  # of a form
SNIPPET = 10  # characters of a body that a complaint repeats
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one down, one up, as signed bytes
_NO_BRACKETS = bytes(set(range(256)) - set(b"[{]}"))


def decode_object(body: bytes, content_type: str) -> dict[str, Any]:
    """
    The fields of a JSON or form body, as the `/api/v1` doors take them.

    Another content type, no body, or an array count as an object without fields: the field checks then say what
    is missing. Raises InvalidRequest for JSON that is malformed, too deep, or neither object nor array.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == FORM:
        return _form(body.decode("utf-8", "replace"))
    if kind != JSON or not body.strip():
        return {}
    value = decode_json(body)
    return value if isinstance(value, dict) else {}


def decode_json(body: bytes) -> Any:
    """Any JSON object or array. Raises InvalidRequest; NaN, Infinity and lone surrogates are malformed."""
    stripped = body.strip()
    if stripped and stripped[:1] not in b"{[":
        raise InvalidRequest(_unexpected(stripped))
    limit_depth(body)
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InvalidRequest(malformed(problem)) from None


def malformed(problem: Exception) -> str:
    """What to tell the sender of JSON that can't be read."""
    if "truncated" in str(problem):
        return "Unexpected end of JSON input"
    if isinstance(problem, msgspec.DecodeError):
        return str(problem)
    return "JSON is malformed: it is not UTF-8"


def limit_depth(body: bytes) -> None:
    """Raises InvalidRequest when brackets are nested deeper than MAX_DEPTH; a text's own brackets do not count."""
    if body.count(b"[") + body.count(b"{") <= MAX_DEPTH:
        return
    plain = body.replace(rb"\\", b"").replace(rb"\"", b"")  # without escaped quotes, each one begins or ends a text
    steps = b"".join(plain.split(b'"')[::2]).translate(_STEPS, _NO_BRACKETS)
    if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
        raise InvalidRequest(f"JSON is nested deeper than {MAX_DEPTH} levels")


def _form(text: str) -> dict[str, Any]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise InvalidRequest(f"The form has more than {MAX_FIELDS} fields") from None


def _unexpected(body: bytes) -> str:
    text = body[: 4 * SNIPPET + 4].decode("utf-8", "replace")
    shown = text if len(text) <= SNIPPET else text[:SNIPPET] + "..."
    return f"Unexpected token '{text[0]}', \"{shown}\" is not valid JSON"
