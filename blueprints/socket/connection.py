"""
A client's connection as Sanic serves it: it may have come from another worker, and it may carry a session.

Its requests are read by `RequestReader`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from sanic import Request, Sanic
from sanic.exceptions import BadRequest
from sanic.http import Stage
from sanic.server.protocols.websocket_protocol import WebSocketProtocol

from blueprints.request_reader import RequestReader, TooSlow

OF_HANDSHAKES = (
    "connection",
    "upgrade",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
)

log = logging.getLogger(__name__)


class SessionConnection(WebSocketProtocol):
    """Sanic's connection, with `first`: what another worker has read of it already."""

    __slots__ = ("_first",)

    HTTP_CLASS = RequestReader

    def __init__(self, *args: Any, first: bytes = b"", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._first = first

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        WebSocketProtocol.connection_made(self, transport)
        if self._first:  # before the loop reads what follows
            WebSocketProtocol.data_received(self, self._first)
            self._first = b""

    async def receive_more(self) -> None:
        """
        Waits for the next bytes. Raises TooSlow when they belong to a request whose time is over.

        Sanic's own clock starts anew with each byte. Most requests come whole, so for them no timer is set.
        """
        reader: RequestReader = self._http
        deadline = reader.deadline()
        if deadline is None:
            await WebSocketProtocol.receive_more(self)
            return
        try:
            async with asyncio.timeout_at(deadline):
                await WebSocketProtocol.receive_more(self)
        except TimeoutError:
            reader.keep_alive = False
            raise TooSlow from None

    def check_timeouts(self) -> None:
        """Sanic's clock. It would stop for good at a request that asks for a WebSocket, wherever that is."""
        reader = self._http
        if reader is None or reader.stage is not Stage.HANDLER or self.websocket is not None:
            WebSocketProtocol.check_timeouts(self)
            return
        asked, reader.upgrade_websocket = reader.upgrade_websocket, False
        WebSocketProtocol.check_timeouts(self)
        reader.upgrade_websocket = asked

    async def websocket_handshake(self, request: Request, subprotocols: Sequence[str] | None = None) -> Any:
        """Opens a WebSocket. Raises BadRequest for headers that RFC 6455, 4.1, knows as ASCII: the library breaks."""
        if not all(value.isascii() for name in OF_HANDSHAKES for value in request.headers.getall(name, ())):
            raise BadRequest
        return await WebSocketProtocol.websocket_handshake(self, request, subprotocols)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends a session's waiting for frames: its own task is not cancelled with the connection's."""
        WebSocketProtocol.connection_lost(self, exc)
        if self.websocket is not None and (waiting := self.websocket.recv_cancel) is not None:
            waiting.cancel()

    def close_if_idle(self) -> bool:
        """A session is not idle: whoever ends the session ends its connection."""
        if self.websocket is not None and getattr(self.ctx, "session", False):
            return False
        return bool(WebSocketProtocol.close_if_idle(self))


class Adoption:
    """Serves connections that other workers give to this one, like those that it accepts itself."""

    def __init__(self, app: Sanic) -> None:
        self._app = app
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, connection: socket.socket, first: bytes) -> None:
        task = asyncio.create_task(self._serve(connection, first))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket, first: bytes) -> None:
        loop, config = asyncio.get_running_loop(), self._app.config
        protocol = partial(
            SessionConnection,
            loop=loop,
            app=self._app,
            connections=self._app.ctx.connections,
            state={"requests_count": 0},
            websocket_max_size=config.WEBSOCKET_MAX_SIZE,
            websocket_ping_interval=config.WEBSOCKET_PING_INTERVAL,
            websocket_ping_timeout=config.WEBSOCKET_PING_TIMEOUT,
            first=first,
        )
        try:
            await loop.connect_accepted_socket(protocol, connection)
        except OSError as problem:  # its client is gone
            connection.close()
            log.debug("a connection that was given to this worker is lost: %s", problem)


def connection_of(request: Request) -> WebSocketProtocol:
    """The connection that a request came on."""
    transport: Any = request.transport
    connection: WebSocketProtocol = transport.get_protocol()
    return connection


def unanswered(request: Request) -> bytes:
    """The bytes of the connection from this request's first one on, as far as they were read; its body must not be."""
    http: Any = request.stream  # Sanic's parser; of a chunked body's head it leaves the last CRLF in the buffer
    return request.head + (b"\r\n" if http.request_body == "chunked" else b"\r\n\r\n") + bytes(http.recv_buffer)
