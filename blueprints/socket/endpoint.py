"""The door /socket.io/: finds the worker that owns a session, and serves the sessions of this one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from sanic import HTTPResponse, Request

from blueprints.socket.connection import connection_of, unanswered
from blueprints.socket.handover import Handover
from blueprints.socket.refusals import bad_request, forbidden, unknown_session
from blueprints.socket.relay import Relay
from blueprints.socket.server import MAX_MESSAGE, SocketServer
from blueprints.socket.session_ids import owner_of
from core.draining import Drain
from core.errors import GatewayError, ShuttingDown, Unavailable

PATH = "/socket.io/"

log = logging.getLogger(__name__)


class Endpoint:
    """
    Answers a request of Engine.IO: by this worker, by giving the connection to the owner, or through the relay.

    A WebSocket's session runs in a task of its own. Sanic cancels the connection's task when the client is gone,
    in the middle of what the session has to clean up.
    """

    def __init__(
        self, server: SocketServer, handover: Handover, relay: Relay, drain: Drain, origins: frozenset[str]
    ) -> None:
        self._server = server
        self._engine = server.eio
        self._handover = handover
        self._relay = relay
        self._drain = drain
        self._origins = origins

    async def __call__(self, request: Request) -> HTTPResponse | None:
        """The response; None once the connection is a WebSocket."""
        origin = request.headers.get("origin")
        if origin is not None and origin not in self._origins and not _is_own(origin, request):
            return forbidden()
        session_id = request.args.get("sid")
        if session_id is None:
            if self._drain.draining:
                raise ShuttingDown
            if self._engine.is_crowded:
                raise Unavailable("Too many connections")
        elif session_id not in self._engine.sockets:
            return await self._elsewhere(request, session_id)
        return await _received(request, self._serve)

    async def _elsewhere(self, request: Request, session_id: str) -> HTTPResponse | None:
        owner = owner_of(session_id)
        if owner is None or owner == self._engine.worker_id:
            return unknown_session()
        if self._given(request, owner):
            raise asyncio.CancelledError  # the connection is no longer ours: no answer, no further request
        return await _received(request, lambda request: self._relay.forward(request, owner))

    def _given(self, request: Request, owner: str) -> bool:
        """Whether the connection is the owner's now. Answers that wait to be sent have to leave from here."""
        connection = connection_of(request)
        transport = connection.transport
        if transport is None or transport.get_write_buffer_size():
            return False
        fd = transport.get_extra_info("socket").fileno()
        if not self._handover.give(owner, fd, unanswered(request)):
            return False
        connection.abort()
        return True

    async def _serve(self, request: Request) -> HTTPResponse | None:
        if not _is_upgrade(request):
            return await self._poll(request)
        return await asyncio.shield(self._server.start_background_task(self._session, request))

    async def _poll(self, request: Request) -> HTTPResponse:
        try:
            response: HTTPResponse = await self._server.handle_request(request)
        except GatewayError:
            raise
        except Exception as problem:  # noqa: BLE001 - a host that makes no URL, a session that ends at this moment
            log.info("a poll broke off: %r", problem)
            return bad_request()
        return response

    async def _session(self, request: Request) -> HTTPResponse | None:
        try:
            response: HTTPResponse = await self._server.handle_request(request)
        except Exception as problem:  # noqa: BLE001 - the library lets out whatever a client's nonsense leads to
            log.info("a session's WebSocket broke off: %r", problem)
            return bad_request()
        return response


async def _received(
    request: Request, answer: Callable[[Request], Awaitable[HTTPResponse | None]]
) -> HTTPResponse | None:
    """Reads the body and answers; what happens to a WebSocket is no answer any more."""
    connection = connection_of(request)
    if connection.ctx is None or request.stream is None:
        raise asyncio.CancelledError  # it is gone already
    connection.ctx.session = _is_upgrade(request)
    request.stream.request_max_size = MAX_MESSAGE
    await request.receive_body()
    try:
        response = await answer(request)
    except (asyncio.CancelledError, OSError):
        if connection.websocket is None:
            raise
        return None
    return None if connection.websocket is not None else response


def _is_own(origin: str, request: Request) -> bool:
    """Whether it is the host that is asked: a page from there, or an app of React Native. TLS may end at a proxy."""
    return origin.partition("://")[2].lower() == str(request.forwarded.get("host", request.host)).lower()


def _is_upgrade(request: Request) -> bool:
    return request.headers.get("upgrade", "").lower() == "websocket"
