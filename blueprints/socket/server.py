"""The Socket.IO server of one worker: python-socketio, with ids that name the worker and tasks that end with it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import engineio
import socketio
from socketio.packet import CONNECT_ERROR

from blueprints.outbox import Outbox
from blueprints.socket import codec
from blueprints.socket.packets import TextPacket
from blueprints.socket.session import Session
from blueprints.socket.session_ids import new_session_id

# Of a client's message: the body of a POST, or one frame. Sanic's limit for frames is the same.
MAX_MESSAGE = 1024 * 1024
# A session costs a request and holds 13 KB. Whoever has a token is known, and has joined a namespace, in a moment.
MOST_STRANGERS = 4000  # sessions of one worker
JOIN_S = 10.0

log = logging.getLogger(__name__)


class Engine(engineio.AsyncServer):  # type: ignore[misc] # it carries no types
    """Engine.IO's sessions. `worker_id` and `outbox` are to be set before the first one."""

    worker_id = ""
    outbox: Outbox

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._strangers: set[str] = set()

    @property
    def is_crowded(self) -> bool:
        """Whether there are as many sessions as may be of clients that nobody knows."""
        return len(self._strangers) >= MOST_STRANGERS

    def acquaint(self, session_id: str) -> None:
        """The session's client is known by its token."""
        self._strangers.discard(session_id)

    def generate_id(self) -> str:
        return new_session_id(self.worker_id)

    def start_background_task(
        self, target: Callable[..., Coroutine[Any, Any, Any]], *args: Any, **kwargs: Any
    ) -> asyncio.Task[Any]:
        """The library's own forgets the task: it may be collected while it runs, and outlives the server."""
        task = asyncio.create_task(target(*args, **kwargs))
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def _trigger_event(self, event: str, *args: Any, **kwargs: Any) -> Any:
        if event == "connect":
            session = self.sockets[args[0]]
            session.__class__ = Session  # the library has no other place to say so
            session.begin()
            self._strangers.add(session.sid)
            asyncio.get_running_loop().call_later(JOIN_S, self._end_if_idle, session.sid)
        elif event == "disconnect":
            self._strangers.discard(args[0])
        return await super()._trigger_event(event, *args, **kwargs)

    async def end(self, session_id: str) -> None:
        """Ends a session after all that is queued for it; its client reconnects by itself, to another worker."""
        if (socket := self.sockets.get(session_id)) is not None:
            await socket.close(wait=False)
            await socket.queue.put(None)  # the writer's end, and with it the WebSocket's

    def _end_if_idle(self, session_id: str) -> None:
        if (session := self.sockets.get(session_id)) is not None and not session.has_joined:
            self.start_background_task(self.end, session_id)

    async def aclose(self) -> None:
        """Ends what still runs: pings that sleep, handlers, the monitor."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("a task of a socket failed", exc_info=problem)


class SocketServer(socketio.AsyncServer):  # type: ignore[misc] # it carries no types
    """
    Socket.IO over Engine.IO, without a pub/sub manager: messages leave through the worker that owns the session.

    Origins are checked, and CORS headers written, by the doors around it; both by the rules of REST.
    """

    eio: Engine

    def __init__(self) -> None:
        super().__init__(
            async_mode="sanic",
            cors_allowed_origins=[],
            serializer=TextPacket,
            json=codec,
            max_http_buffer_size=MAX_MESSAGE,
            logger=_quiet("socketio"),
            engineio_logger=_quiet("engineio"),
            namespaces=["/"],  # clients of the default namespace are accepted and never told anything
        )

    def busy_sessions(self) -> set[str]:
        """The sessions that wait for an answer, as their namespaces tell."""
        return set().union(*(handler.busy_sessions() for handler in self.namespace_handlers.values()))

    def _engineio_server_class(self) -> type[Engine]:
        return Engine

    async def _handle_connect(self, eio_sid: str, namespace: str | None, data: Any) -> None:
        if (name := namespace or "/") in (*self.namespace_handlers, *self.namespaces):
            self.eio.sockets[eio_sid].has_joined = True
            await super()._handle_connect(eio_sid, name, data)
            return
        unknown = {"message": "Invalid namespace"}  # as an object: clients read its message, and the library sends text
        await self._send_packet(eio_sid, self.packet_class(CONNECT_ERROR, data=unknown, namespace=name))

    async def _handle_eio_message(self, eio_sid: str, data: Any) -> None:
        try:
            await super()._handle_eio_message(eio_sid, data)
        except ValueError as problem:
            log.info("a session is ended for %s", problem)
            await self.eio.end(eio_sid)


def _quiet(name: str) -> logging.Logger:
    """The libraries log what a client does wrong as errors of theirs."""
    logger = logging.getLogger(name)
    logger.setLevel(logging.CRITICAL)
    return logger
