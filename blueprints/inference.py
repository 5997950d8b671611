"""The inference doors of the former service, in its shapes: POST answers 201, the stream is plain text events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request

from blueprints.frames import NativeFrames
from blueprints.idempotency import key_of, replay_headers
from blueprints.replies import JSON, Reply
from blueprints.routing import READ
from blueprints.shapes import native
from blueprints.streaming import open_event_stream
from conf.settings import Settings
from core.access.rate_limit import quota_headers
from core.auth.caller import Caller
from core.body import decode_object
from core.inference import native_body
from core.inference.repeatable import RepeatableInference
from core.inference.streaming import AnswerStream

bp = Blueprint("inference", url_prefix="/api/v1/inference")
NOT_TEXT = {"max_tokens", "temperature", "top_p", "stream"}


@bp.post("/", name="complete")
@bp.post("/chat", name="chat")
async def complete(request: Request, caller: Caller, inference: RepeatableInference) -> HTTPResponse:
    """Both routes take a prompt, messages, or both."""
    asked = native_body.parse(_fields(request))
    completion = await inference.complete(caller, asked, key_of(request, asked))
    shaped = native(completion, with_text=asked.prompt is not None, with_message=asked.messages is not None)
    headers = quota_headers(completion.grant.quota) | replay_headers(completion)
    return Reply(msgspec.json.encode(shaped), 201, headers, JSON)


@bp.route("/stream", methods=READ, name="stream")
async def stream_get(request: Request, caller: Caller, inference: RepeatableInference, settings: Settings) -> None:
    """Asked by query parameters, or by a body as the former service wanted it."""
    asked = native_body.parse(_fields(request) or _query_fields(request.args))
    async with inference.stream(caller, asked, None) as stream:
        await _send(request, stream, settings, status=200)


@bp.post("/stream", name="stream_post")
async def stream_post(request: Request, caller: Caller, inference: RepeatableInference, settings: Settings) -> None:
    """Asked by a body."""
    asked = native_body.parse(_fields(request))
    async with inference.stream(caller, asked, key_of(request, asked)) as stream:
        await _send(request, stream, settings, status=201)


async def _send(request: Request, stream: AnswerStream, settings: Settings, *, status: int) -> None:
    headers = quota_headers(stream.grant.quota) | replay_headers(stream)
    events = await open_event_stream(request, status, headers, settings.stream_heartbeat_s, NativeFrames())
    await events.answer(stream)


def _fields(request: Request) -> dict[str, Any]:
    return decode_object(request.body, request.headers.get("content-type", ""))


def _query_fields(args: Mapping[str, list[str]]) -> dict[str, Any]:
    """Query parameters with numbers as numbers; what is none stays text and is complained about."""
    fields: dict[str, Any] = {name: values[0] for name, values in args.items()}
    for name in NOT_TEXT & fields.keys():
        fields[name] = _value(fields[name])
    return fields


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text, type=int | float | bool)
    except msgspec.DecodeError:
        return text
