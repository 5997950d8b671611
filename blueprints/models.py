"""The model catalogue, with what the network serves of it right now."""

from __future__ import annotations

from typing import Any

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.routing import MODEL_ID, READ, decoded
from core.auth.caller import Caller
from core.auth.tokens import TokenService
from core.catalog import Catalog, Model
from core.errors import UnknownResource
from core.nodes.registry import NodeRegistry

bp = Blueprint("models", url_prefix="/api/v1/models")


@bp.route("/", methods=READ)
async def list_models(_: Request, catalog: Catalog, nodes: NodeRegistry) -> HTTPResponse:
    """Public."""
    return json({"models": [_shape(model, nodes) for model in catalog]})


@bp.route(MODEL_ID, methods=READ)
async def model_detail(
    _: Request, model_id: str, caller: Caller, tokens: TokenService, catalog: Catalog, nodes: NodeRegistry
) -> HTTPResponse:
    """An id with a slash may come raw or as %2F."""
    await tokens.ensure_live(caller)
    name = decoded(model_id)
    model = catalog.named(name)
    if model is None:
        raise UnknownResource(f"Model {name} not found")
    return json(_shape(model, nodes))


def _shape(model: Model, nodes: NodeRegistry) -> dict[str, Any]:
    serving = nodes.count(model.id)
    return {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "max_tokens": model.max_tokens,
        "tier": model.tier,
        "nodes": serving,
        "status": "available" if serving else "offline",
    }
