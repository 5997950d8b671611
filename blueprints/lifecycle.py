"""The life of one web worker: services open before the first request, and close after the last one has ended."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any

from sanic import Sanic
from sanic.server.protocols.http_protocol import HttpProtocol

from blueprints import register_services, socket
from blueprints.outbox import Outbox
from blueprints.socket.sessions import Sessions
from conf.settings import Settings
from core.bootstrap.web import Services
from core.draining import CLOSING_S, INTERRUPTED_S

LOOK_S = 0.05
GC_THRESHOLD = (10_000, 20, 20)  # a request makes some hundred objects and no circles: collecting each 700 is a waste

OpenServices = Callable[[Settings], AbstractAsyncContextManager[Services]]


class Lifecycle:
    """
    Sanic's server listeners.

    Sanic by itself lets idle connections hold the end up for the whole grace, and cancels what still runs only
    after the services were closed; so the connections are ended here, while the services are open.
    """

    def __init__(self, settings: Settings, open_services: OpenServices) -> None:
        self._settings = settings
        self._open_services = open_services
        self._stack = AsyncExitStack()
        self._sessions: Sessions | None = None
        self._ending: list[asyncio.Task[None]] = []
        self._idle: asyncio.Task[None] | None = None

    def attach(self, app: Sanic[Any, Any]) -> None:
        """Registers the listeners; `app.ctx.connections` is the server's set of open connections."""
        app.ctx.connections = set()
        app.before_server_start(self._start)
        app.before_server_stop(self._begin_stop)
        app.after_server_stop(self._finish)

    async def _start(self, app: Sanic[Any, Any]) -> None:
        services = await self._stack.enter_async_context(self._open_services(self._settings))
        register_services(app, services)
        app.ctx.outbox = Outbox()
        self._sessions = await self._stack.enter_async_context(socket.serving(app, services))
        # What is there by now stays. A full collection that walks through it halts every stream for some 80 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLD)

    async def _begin_stop(self, app: Sanic[Any, Any]) -> None:
        app.ctx.services.drain.add_interrupt(self._end_sessions)
        app.ctx.services.drain.begin()
        patience_s = self._settings.shutdown_timeout_s + INTERRUPTED_S
        self._ending.append(asyncio.create_task(end_connections(app.ctx.connections, patience_s)))
        if self._sessions is not None:
            self._idle = asyncio.create_task(self._sessions.end_idle())

    async def _finish(self, _: Sanic[Any, Any]) -> None:
        await asyncio.gather(*self._ending)
        if self._idle is not None:
            self._idle.cancel()
        await self._stack.aclose()

    def _end_sessions(self) -> None:
        if self._sessions is not None:
            self._ending.append(asyncio.create_task(self._sessions.end()))


async def end_connections(connections: set[HttpProtocol], patience_s: float) -> None:
    """Closes each connection once it is idle, and those that are not after `patience_s`; waits for their handlers."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    handlers: set[asyncio.Task[None]] = set()
    while connections:
        # Sanic has no public name for a connection's task. It outlives its connection while a handler cleans up.
        handlers |= {connection._task for connection in connections if connection._task}  # noqa: SLF001
        for connection in tuple(connections):
            connection.close_if_idle()
            if loop.time() >= deadline:
                connection.abort()
        await asyncio.sleep(LOOK_S)
    if handlers:
        await asyncio.wait(handlers, timeout=CLOSING_S)
