"""The doors for clients: each parses, makes one service call, and formats; this file is their table of contents."""

from __future__ import annotations

from sanic import Request, Sanic

from blueprints import (
    agent_relay,
    auth,
    docs,
    health,
    inference,
    models,
    nodes,
    openai,
    payment,
    payment_record,
    report,
    socket,
)
from blueprints.errors import register_errors
from blueprints.guards import authenticate, present_oracle_key
from blueprints.middleware import register_middleware
from conf.settings import Settings
from core.access.tiers import Standings
from core.auth.caller import Caller
from core.auth.keys import OracleKey
from core.bootstrap.web import Services

BLUEPRINTS = (
    health.bp,
    docs.bp,
    auth.bp,
    models.bp,
    nodes.bp,
    inference.bp,
    openai.bp,
    payment.bp,
    payment_record.bp,
    report.bp,
    agent_relay.bp,
)


def register(app: Sanic, settings: Settings) -> None:
    """Attaches routes, errors and middleware."""
    for blueprint in BLUEPRINTS:
        app.blueprint(blueprint)
    socket.attach(app)
    register_errors(app)
    register_middleware(app, settings.cors_origins)


def register_services(app: Sanic, services: Services) -> None:
    """
    Lets handlers name the services that they want by type.

    A `Caller` among a handler's arguments means that the caller must be known: he is, or 401 is answered before
    the body is read. An `OracleKey` means in the same way that the caller has shown it.
    """
    app.ctx.services = services
    app.ext.add_dependency(Caller, authenticate)
    app.ext.add_dependency(OracleKey, present_oracle_key)
    app.ext.add_dependency(Standings, _standings)  # a protocol: `dependency` goes by the object's own type
    for service in services.injectable():
        app.ext.dependency(service)


def _standings(request: Request) -> Standings:
    services: Services = request.app.ctx.services
    return services.tiers
