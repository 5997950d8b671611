"""The body of the `/api/v1` inference doors and socket events: its fields, and the former service's complaints."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from core import complaints
from core.errors import InvalidRequest
from core.inference.requests import MAX_MESSAGES, MAX_MODEL_NAME, MAX_TEXT, ROLES, InferenceRequest, Message

FIELDS = ("model", "prompt", "messages", "max_tokens", "temperature", "top_p", "stream")
MESSAGE_FIELDS = ("role", "content")
MAX_TOKENS = 4096  # what the door takes at all; the tier's and the model's limits come after it


def parse(body: dict[str, Any]) -> InferenceRequest:
    """
    A request out of decoded JSON.

    Raises InvalidRequest with all complaints, in the order in which the former service gave them: unknown fields
    first, then field by field, a field's last rule first.
    """
    if found := list(_complaints(body)):
        raise InvalidRequest(found)
    prompt, messages = body.get("prompt") or None, body.get("messages")
    if prompt is None and messages is None:
        raise InvalidRequest("Either prompt or messages must be provided")
    return InferenceRequest(
        model=body["model"],
        prompt=prompt,
        messages=None if messages is None else tuple(Message(m["role"], m["content"]) for m in messages),
        max_tokens=int(body["max_tokens"]),
        temperature=_or(body.get("temperature"), 0.7),
        top_p=_or(body.get("top_p"), 0.9),
    )


def _complaints(body: dict[str, Any]) -> Iterator[str]:
    yield from (f"property {name} should not exist" for name in body if name not in FIELDS)
    yield from complaints.text("model", body.get("model"), MAX_MODEL_NAME)
    if body.get("prompt") is not None:
        yield from complaints.text("prompt", body["prompt"], MAX_TEXT)
    if body.get("messages") is not None:
        yield from _messages(body["messages"])
    yield from complaints.number("max_tokens", body.get("max_tokens"), 1, MAX_TOKENS)
    if isinstance(body.get("max_tokens"), float) and not body["max_tokens"].is_integer():
        yield "max_tokens must be an integer number"
    if body.get("temperature") is not None:
        yield from complaints.number("temperature", body["temperature"], 0, 2)
    if body.get("top_p") is not None:
        yield from complaints.number("top_p", body["top_p"], 0, 1)
    if body.get("stream") is not None and not isinstance(body["stream"], bool):
        yield "stream must be a boolean value"


def _messages(value: Any) -> Iterator[str]:
    if not isinstance(value, list):
        yield "messages must be an array"
        return
    if len(value) > MAX_MESSAGES:
        yield f"messages must contain no more than {MAX_MESSAGES} elements"
        return
    for index, message in enumerate(value):
        if isinstance(message, dict):
            yield from _message(f"messages.{index}.", message)
        else:
            yield "each value in nested property messages must be either object or array"


def _message(prefix: str, message: dict[str, Any]) -> Iterator[str]:
    yield from (f"{prefix}property {name} should not exist" for name in message if name not in MESSAGE_FIELDS)
    if message.get("role") not in ROLES:
        yield f"{prefix}role must be one of the following values: {', '.join(ROLES)}"
    yield from complaints.text(f"{prefix}content", message.get("content"), MAX_TEXT)


def _or(value: float | None, default: float) -> float:
    return default if value is None else float(value)
