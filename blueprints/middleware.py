"""What every request and answer passes: an id, CORS, protective headers, and the closed door while draining."""

from __future__ import annotations

import re
from random import getrandbits

from sanic import HTTPResponse, Request, Sanic
from sanic.response import BaseHTTPResponse, empty

from blueprints.errors import answer, is_openai
from blueprints.replies import JSON, PROTECTION, Reply
from core import request_id as logged
from core.draining import Drain
from core.errors import ShuttingDown

FORMER_JSON = "application/json; charset=utf-8"
HEALTH = ("/", "/health", "/api/v1/health", "/ready")
SOCKETS = ("/socket.io/", "/socket.io")  # running sessions go on; new ones are refused there
TO_THE_END = (*HEALTH, *SOCKETS)  # what is answered while draining
METHODS = "GET,HEAD,PUT,PATCH,POST,DELETE"
EXPOSED = (
    "X-Request-Id, Idempotency-Replayed, Retry-After, RateLimit, RateLimit-Policy,"
    " X-RateLimit-Limit-Requests, X-RateLimit-Remaining-Requests, X-RateLimit-Reset-Requests"
)
# A client's own id goes into logs and headers, so it may only be a plain word.
REQUEST_ID = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def register_middleware(app: Sanic, cors_origins: tuple[str, ...]) -> None:
    """Attaches all of it."""
    allowed = frozenset(cors_origins)

    async def before(request: Request) -> HTTPResponse | None:
        logged.request_id.set(request_id(request))
        if request.method == "OPTIONS":
            await request.receive_body()  # or Sanic complains that nobody did
            return empty(204)
        if _drain(app).draining and request.path not in TO_THE_END:
            return answer(request, ShuttingDown())
        return None

    async def after(request: Request, response: BaseHTTPResponse) -> None:
        headers = response.headers
        if response.content_type == JSON and not is_openai(request.path):
            response.content_type = FORMER_JSON
        if not isinstance(response, Reply):
            headers.extend(PROTECTION)
        headers["X-Request-Id"] = request_id(request)
        if request.method == "OPTIONS":
            _add_preflight(request, response)
        if (origin := request.headers.get("origin")) in allowed:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = EXPOSED
        if _drain(app).draining:
            headers["Connection"] = "close"

    app.register_middleware(before, "request")
    app.register_middleware(after, "response")


def request_id(request: Request) -> str:
    """The client's X-Request-Id if it is a plain word, else one of ours; the same all through a request."""
    known: str | None = getattr(request.ctx, "request_id", None)
    if known is None:
        given = request.headers.get("x-request-id", "")
        known = request.ctx.request_id = given if REQUEST_ID.fullmatch(given) else f"{getrandbits(128):032x}"
    return known


def _add_preflight(request: Request, response: BaseHTTPResponse) -> None:
    response.headers["Access-Control-Allow-Methods"] = METHODS
    if asked := request.headers.get("access-control-request-headers"):
        response.headers["Access-Control-Allow-Headers"] = asked
        response.headers["Vary"] = "Origin, Access-Control-Request-Headers"


def _drain(app: Sanic) -> Drain:
    drain: Drain = app.ctx.services.drain
    return drain
