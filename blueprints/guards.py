"""Who may enter: handlers that name a `Caller` are only run for one who is known."""

from __future__ import annotations

import msgspec
from sanic import Request

from blueprints.bodies import receive
from blueprints.errors import is_openai
from core.auth.agent_signature import AgentClaim
from core.auth.caller import OPERATOR, Caller
from core.auth.keys import OracleKey
from core.body import limit_depth
from core.bootstrap.web import Services
from core.errors import InvalidRequest, Unauthenticated

DEFAULT = "default"  # the model that a signature names when the request names none


class Named(msgspec.Struct):
    """A body, as far as its signature needs it."""

    model: str = DEFAULT


async def authenticate(request: Request) -> Caller:
    """
    The caller by the bearer token (RFC 6750) in the Authorization header, or by an agent's three headers.

    Raises Unauthenticated: by a token before the body is read. An agent's signature covers the model in the body.
    """
    services: Services = request.app.ctx.services
    if "authorization" not in request.headers and (claim := AgentClaim.from_headers(request.headers)) is not None:
        services.agent_signatures.ensure_timely(claim)
        await receive(request)
        return await services.agent_signatures.verify(claim, _model(request))
    scheme, _, credentials = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated
    token = credentials.strip()
    if is_openai(request.path) and services.operator_key.matches(token):
        return Caller(OPERATOR)
    return services.tokens.verify(token)


def present_oracle_key(request: Request) -> OracleKey:
    """The key, once the x-api-key header has shown it. Raises KeyRefused."""
    services: Services = request.app.ctx.services
    services.oracle_key.ensure(request.headers.get("x-api-key", ""))
    return services.oracle_key


def _model(request: Request) -> str:
    """The model that a request names in its body, else in its query. What can't be read names none."""
    if not request.body.strip():
        return str(request.args.get("model", DEFAULT))
    try:
        limit_depth(request.body)
        return msgspec.json.decode(request.body, type=Named).model
    except (InvalidRequest, msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return DEFAULT
