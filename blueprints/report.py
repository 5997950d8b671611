"""What agents report of themselves: by the key that the network's programs share, in the header x-api-key."""

from __future__ import annotations

import msgspec
from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.bodies import ensure_small
from blueprints.routing import READ
from core.auth.keys import OracleKey
from core.body import decode_object
from core.metrics import report_body
from core.metrics.agent_reports import AgentReports

bp = Blueprint("report", url_prefix="/api/v1/report")


@bp.post("/")
async def report(request: Request, key: OracleKey, reports: AgentReports) -> HTTPResponse:
    """Takes a report in place of the agent's last one."""
    ensure_small(request)
    await reports.add(report_body.parse(decode_object(request.body, request.headers.get("content-type", ""))))
    return json({"status": "ok"}, 201)


@bp.route("/agents", methods=READ)
async def agents(_: Request, key: OracleKey, reports: AgentReports) -> HTTPResponse:
    """The reports of the last five minutes."""
    return json({"reports": msgspec.to_builtins(await reports.all())})
