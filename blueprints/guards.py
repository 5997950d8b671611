"""Who may enter: handlers that name a `Caller` are only run for one who is known."""

from __future__ import annotations

from sanic import Request

from blueprints.errors import is_openai
from core.auth.caller import OPERATOR, Caller
from core.bootstrap import Services
from core.errors import Unauthenticated


async def authenticate(request: Request) -> Caller:
    """The caller by the bearer token (RFC 6750) in the Authorization header, nowhere else. Raises Unauthenticated."""
    services: Services = request.app.ctx.services
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    token = credentials.strip()
    if is_openai(request.path) and services.operator_key.matches(token):
        return Caller(OPERATOR)
    return services.tokens.verify(token)
