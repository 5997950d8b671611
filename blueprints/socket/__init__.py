"""Socket.IO at /socket.io/: any worker of any machine serves a client, whichever of them owns its session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from sanic import HTTPResponse, Request, Sanic

from blueprints.socket.connection import Adoption
from blueprints.socket.endpoint import PATH, Endpoint
from blueprints.socket.handover import Handover
from blueprints.socket.namespace import InferenceNamespace
from blueprints.socket.relay import Relay
from blueprints.socket.server import SocketServer
from blueprints.socket.sessions import Sessions
from core.bootstrap.web import Services


def attach(app: Sanic) -> None:
    """Adds the door; it answers as soon as `serving` has begun."""
    server = SocketServer()
    server.register_namespace(InferenceNamespace(app))
    app.ctx.socket_server = server
    app.ctx.meeting = None  # the folder where the workers of this machine meet, if there is one

    async def socket_io(request: Request) -> HTTPResponse | None:
        endpoint: Endpoint = request.app.ctx.socket_endpoint
        return await endpoint(request)

    socket_io.is_websocket = True  # type: ignore[attr-defined] # Sanic's word for: None may be the answer
    app.enable_websocket()
    # The body of a connection that is given away must still be unread, hence stream=True.
    app.add_route(socket_io, PATH, methods=["GET", "POST"], name="socket_io", stream=True)


@asynccontextmanager
async def serving(app: Sanic, services: Services) -> AsyncIterator[Sessions]:
    """Takes sessions and connections, own and others', until the context ends."""
    server: SocketServer = app.ctx.socket_server
    server.eio.worker_id, server.eio.outbox = services.worker_id, app.ctx.outbox
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.eio.aclose)
        relay = Relay(services.bus, services.worker_id, server.handle_request)
        stack.push_async_callback(relay.aclose)
        await relay.open()
        handover = Handover(app.ctx.meeting, services.worker_id, Adoption(app))
        stack.callback(handover.close)
        handover.open()
        origins = frozenset(services.settings.cors_origins)
        app.ctx.socket_endpoint = Endpoint(server, handover, relay, services.drain, origins)
        yield Sessions(server, relay)
