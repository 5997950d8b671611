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
from core.metrics.agent_reports import AgentReports
from core.nodes.registry import NodeRegistry

bp = Blueprint("models", url_prefix="/api/v1/models")


@bp.route("/", methods=READ)
async def list_models(_: Request, catalog: Catalog, nodes: NodeRegistry, reports: AgentReports) -> HTTPResponse:
    """Public."""
    return json({"models": [_shape(model, nodes, reports) for model in catalog]})


@bp.route(MODEL_ID, methods=READ)
async def model_detail(
    _: Request,
    model_id: str,
    caller: Caller,
    tokens: TokenService,
    catalog: Catalog,
    nodes: NodeRegistry,
    reports: AgentReports,
) -> HTTPResponse:
    """An id with a slash may come raw or as %2F."""
    await tokens.ensure_live(caller)
    name = decoded(model_id)
    model = catalog.named(name)
    if model is None:
        raise UnknownResource(f"Model {name} not found")
    return json(_shape(model, nodes, reports))


def _shape(model: Model, nodes: NodeRegistry, reports: AgentReports) -> dict[str, Any]:
    serving = nodes.serving(model.id)
    reported = reports.count(model.id, besides={node.address for node in serving})
    return {
        "id": model.id,
        "name": model.name,
        "description": model.description,
        "max_tokens": model.max_tokens,
        "tier": model.tier,
        "nodes": len(serving) + reported,
        "status": _status(reported, well=bool(serving) or reports.any_well(model.id)),
    }


def _status(reported: int, *, well: bool) -> str:
    """Degraded: only agents serve it most of whose requests fail, by their own reports."""
    if well:
        return "available"
    return "degraded" if reported else "offline"
