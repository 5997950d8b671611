"""The nodes that serve right now, and what one of them has served."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.routing import READ
from core.billing.ledger import Ledger
from core.clock import iso
from core.nodes.node import Node
from core.nodes.registry import NodeRegistry

bp = Blueprint("nodes", url_prefix="/api/v1/nodes")


@bp.route("/", methods=READ)
async def list_nodes(_: Request, nodes: NodeRegistry) -> HTTPResponse:
    """Online nodes only, as ever."""
    online = [_shape(node, nodes) for node in nodes.nodes() if node.online]
    return json({"total": len(online), "nodes": online})


@bp.route("/<address:str>/stats", methods=READ)
async def node_stats(_: Request, address: str, nodes: NodeRegistry, ledger: Ledger) -> HTTPResponse:
    """An unknown address is an answer here, not an error."""
    node = nodes.node_at(unquote(address).lower())
    if node is None:
        return json({"found": False, "message": "Node not found or not registered"})
    served = await ledger.node_totals(node.url)
    return json({"found": True, "node": _shape(node, nodes) | {"consecutiveFailures": node.failures}, "served": served})


def _shape(node: Node, nodes: NodeRegistry) -> dict[str, Any]:
    traffic = nodes.traffic(node)
    return {
        "url": node.url,
        "address": node.address,
        "status": "online" if node.online else "offline",
        "lastHealthCheck": iso(node.last_check),
        "kind": node.kind,
        "models": list(node.models),
        "latencyMs": node.latency_ms,
        "firstTokenMs": traffic.first_token_ms,
        "tokensPerSecond": traffic.tokens_per_s,
        "benchmarkTokensPerSecond": node.benchmark_tps,
        "inFlight": traffic.in_flight,
        "failedRequests": traffic.standing.failures,
        "lastSeen": iso(seen) if (seen := max(node.last_seen, traffic.last_answer)) else None,
    }
