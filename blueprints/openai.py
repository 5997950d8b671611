"""The OpenAI doors: any OpenAI SDK with the wallet's token, or the operator's key, as API key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints import shapes
from blueprints.frames import OpenAIFrames
from blueprints.idempotency import key_of, replay_headers
from blueprints.replies import JSON, Reply
from blueprints.routing import MODEL_ID, READ, decoded
from blueprints.streaming import open_event_stream
from conf.settings import Settings
from core.access.rate_limit import quota_headers
from core.auth.caller import Caller
from core.auth.tokens import TokenService
from core.catalog import Catalog, Model
from core.errors import UnknownModel
from core.inference.completion import Completion
from core.inference.openai_body import OpenAIRequest, parse_chat, parse_completion
from core.inference.repeatable import RepeatableInference

bp = Blueprint("openai", url_prefix="/v1")
CREATED = 1_770_768_000  # 2026-02-11, when the network's catalogue was first published


@bp.post("/chat/completions")
async def chat_completions(
    request: Request, caller: Caller, inference: RepeatableInference, settings: Settings
) -> HTTPResponse | None:
    """https://platform.openai.com/docs/api-reference/chat/create"""
    asked = parse_chat(request.body)
    if asked.stream:
        await _stream(request, caller, inference, settings, asked, chat=True)
        return None
    return _whole(await inference.complete(caller, asked.inference, key_of(request, asked)), shapes.chat)


@bp.post("/completions")
async def completions(
    request: Request, caller: Caller, inference: RepeatableInference, settings: Settings
) -> HTTPResponse | None:
    """https://platform.openai.com/docs/api-reference/completions/create"""
    asked = parse_completion(request.body)
    if asked.stream:
        await _stream(request, caller, inference, settings, asked, chat=False)
        return None
    return _whole(await inference.complete(caller, asked.inference, key_of(request, asked)), shapes.text)


@bp.route("/models", methods=READ)
async def list_models(_: Request, caller: Caller, tokens: TokenService, catalog: Catalog) -> HTTPResponse:
    """https://platform.openai.com/docs/api-reference/models/list"""
    await tokens.ensure_live(caller)
    return json({"object": "list", "data": [_model(model) for model in catalog]})


@bp.route("/models" + MODEL_ID, methods=READ)
async def retrieve_model(
    _: Request, model_id: str, caller: Caller, tokens: TokenService, catalog: Catalog
) -> HTTPResponse:
    """https://platform.openai.com/docs/api-reference/models/retrieve"""
    await tokens.ensure_live(caller)
    name = decoded(model_id)
    model = catalog.named(name)
    if model is None:
        raise UnknownModel(name)
    return json(_model(model))


def _model(model: Model) -> dict[str, Any]:
    return {"id": model.id, "object": "model", "created": CREATED, "owned_by": "plumise"}


def _whole(completion: Completion, shape: Callable[[Completion], msgspec.Struct]) -> HTTPResponse:
    headers = quota_headers(completion.grant.quota) | replay_headers(completion)
    return Reply(msgspec.json.encode(shape(completion)), 200, headers, JSON)


async def _stream(
    request: Request,
    caller: Caller,
    inference: RepeatableInference,
    settings: Settings,
    asked: OpenAIRequest,
    *,
    chat: bool,
) -> None:
    async with inference.stream(caller, asked.inference, key_of(request, asked)) as stream:
        headers = quota_headers(stream.grant.quota) | replay_headers(stream)
        frames = OpenAIFrames(stream, chat=chat, include_usage=asked.include_usage)
        events = await open_event_stream(request, 200, headers, settings.stream_heartbeat_s, frames)
        await events.answer(stream)
