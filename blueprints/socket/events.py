"""What clients send and are sent in /ws/inference, besides the chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from blueprints.middleware import REQUEST_ID
from blueprints.shapes import NativeChoice, NativeCompletion, Turn
from core.errors import GatewayError, InvalidRequest, Unavailable
from core.inference.answers import AnswerEnd
from core.inference.completion import FinishReason, Usage
from core.inference.requests import InferenceRequest

MOST_SEQ = 2**53 - 1  # the last whole number that JavaScript counts to


@dataclass(frozen=True)
class Payload:
    """An event's argument: the client's own name for the answer, and the other fields."""

    request_id: str | None
    fields: dict[str, Any]

    @property
    def name(self) -> str:
        """The request_id where there must be one. Raises InvalidRequest."""
        if self.request_id is None:
            raise InvalidRequest(["request_id must be a string"])
        return self.request_id

    @property
    def after_seq(self) -> int:
        """The number of the last chunk that the client has; 0 when it has none. Raises InvalidRequest."""
        seq = self.fields.get("after_seq", 0)
        if not isinstance(seq, int) or isinstance(seq, bool) or not 0 <= seq <= MOST_SEQ:
            raise InvalidRequest([f"after_seq must be an integer number from 0 to {MOST_SEQ}"])
        return seq


class Complete(msgspec.Struct, frozen=True, omit_defaults=True):
    """`inference_complete`."""

    status: Literal["done", "cancelled"]
    id: str
    model: str
    finish_reason: FinishReason
    usage: Usage
    request_id: str | None = None


def payload(argument: Any) -> Payload:
    """Anything but an object counts as one without fields, as in REST. Raises InvalidRequest for a bad request_id."""
    fields = dict(argument) if isinstance(argument, dict) else {}
    request_id = fields.pop("request_id", None)
    if request_id is not None and not (isinstance(request_id, str) and REQUEST_ID.fullmatch(request_id)):
        raise InvalidRequest(["request_id must be 1 to 64 characters of A-Z, a-z, 0-9, '_', '.' and '-'"])
    return Payload(request_id, fields)


def complete(end: AnswerEnd, request_id: str | None) -> Complete:
    """The event that ends a stream, or an answer that was cancelled."""
    status: Literal["done", "cancelled"] = "cancelled" if end.cancelled else "done"
    return Complete(status, end.id, end.model, end.finish_reason, end.usage, request_id)


def response(end: AnswerEnd, text: str, request: InferenceRequest, request_id: str | None) -> dict[str, Any]:
    """`inference_response`: REST's answer."""
    choice = NativeChoice(
        end.finish_reason,
        text=text if request.prompt is not None else None,
        message=Turn(text) if request.messages is not None else None,
    )
    completion: dict[str, Any] = msgspec.to_builtins(NativeCompletion(end.id, end.model, [choice], end.usage))
    return completion | named(request_id)


def failure(error: GatewayError, request_id: str | None) -> dict[str, Any]:
    """`inference_error`. `retryable` tells that the same request may do later."""
    details = {} if error.details is None else {"details": dict(error.details)}
    retryable = {"retryable": True} if isinstance(error, Unavailable) else {}
    return {"statusCode": error.status, "message": error.message, **details, **retryable, **named(request_id)}


def named(request_id: str | None) -> dict[str, str]:
    """The client's own name, where there is one."""
    return {} if request_id is None else {"request_id": request_id}
