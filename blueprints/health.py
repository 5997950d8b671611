"""Liveness and readiness."""

from __future__ import annotations

import time

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.routing import READ
from core.clock import iso
from core.readiness import Readiness

bp = Blueprint("health")


@bp.route("/", methods=READ, name="root")
@bp.route("/health", methods=READ, name="health")
@bp.route("/api/v1/health", methods=READ, name="api_health")
async def health(_: Request) -> HTTPResponse:
    """This process lives; it asks nobody else."""
    body = {"status": "ok", "timestamp": iso(time.time()), "service": "Plumise Inference API", "version": "1.0.0"}
    return json(body)


@bp.route("/ready", methods=READ)
async def ready(_: Request, readiness: Readiness) -> HTTPResponse:
    """200 when requests can be served, else 503; the body says what is missing."""
    report = await readiness.report()
    return json(report, 200 if report["status"] == "ready" else 503)
