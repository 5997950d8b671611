"""The true Socket.IO door of one worker, in the test's own process, over answers that the test speaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from socket import create_server
from types import SimpleNamespace
from typing import Any

import pytest_asyncio
import socketio
from sanic import Sanic

from blueprints import socket
from blueprints.errors import register_errors
from blueprints.outbox import Outbox
from blueprints.socket.connection import SessionConnection
from blueprints.socket.frames import PATH
from blueprints.socket.server import SocketServer
from core.access.tiers import FreeForAll
from core.auth.tokens import TokenService
from core.bus import open_bus
from core.draining import Drain
from core.store import Store
from core.worker_id import new_worker_id
from tests.fakes.clock import FakeClock
from tests.socket.answers import SpokenAnswers

SECRET = "a-secret-for-tests-of-32-bytes-or-more"
ADDRESS = "0x" + "ab" * 20


@dataclass
class Door:
    """What a test may look at and reach into."""

    url: str
    port: int
    server: SocketServer
    answers: SpokenAnswers
    tokens: TokenService
    drain: Drain
    clock: FakeClock

    @property
    def namespace(self) -> Any:
        return self.server.namespace_handlers[PATH]

    @property
    def token(self) -> str:
        return self.tokens.issue(ADDRESS)

    async def is_empty(self) -> bool:
        """Whether nothing is left of any session, at the latest after a moment."""
        for _ in range(400):
            if not (self.namespace._clients or self.server.eio.sockets or self.server.environ):
                return True
            await asyncio.sleep(0.02)
        return False


@pytest_asyncio.fixture
async def door(store: Store, redis_url: str, clock: FakeClock) -> AsyncIterator[Door]:
    tokens = TokenService(SECRET, None, 3600, clock, store)
    answers, drain = SpokenAnswers(), Drain(5)
    async with open_bus(redis_url) as bus:
        services: Any = SimpleNamespace(
            worker_id=new_worker_id(),
            bus=bus,
            tokens=tokens,
            tiers=FreeForAll(),
            answers=answers,
            drain=drain,
            settings=SimpleNamespace(cors_origins=()),
        )
        Sanic.test_mode = True
        app = Sanic(f"door-{services.worker_id}", configure_logging=False)
        app.config.AUTO_EXTEND = False
        app.ctx.connections, app.ctx.services, app.ctx.outbox = set(), services, Outbox()
        socket.attach(app)
        register_errors(app)
        async with socket.serving(app, services):
            listener = create_server(("127.0.0.1", 0))
            server: Any = await app.create_server(
                sock=listener, return_asyncio_server=True, protocol=SessionConnection, access_log=False
            )
            await server.startup()
            await server.start_serving()
            port = listener.getsockname()[1]
            url = f"http://127.0.0.1:{port}"
            yield Door(url, port, app.ctx.socket_server, answers, tokens, drain, clock)
            server.close()
        for connection in list(server.connections):
            connection.abort()
        await server.wait_closed()


@pytest_asyncio.fixture
async def client(door: Door) -> AsyncIterator[Client]:
    async with Client(door.url) as opened:
        await opened.connect(door.token)
        yield opened


class Client:
    """python-socketio's client, and all that it was told, in order."""

    def __init__(self, url: str) -> None:
        self.events: list[tuple[str, Any]] = []
        self.sio = socketio.AsyncClient(reconnection=False)
        self._url = url
        self._told = asyncio.Event()
        self.sio.on("*", self._note, namespace=PATH)
        self.sio.on("disconnect", self._note_end, namespace=PATH)

    async def connect(self, token: str, transports: list[str] | None = None) -> None:
        await self.sio.connect(self._url, auth={"token": token}, namespaces=[PATH], transports=transports)

    async def emit(self, event: str, data: Any = None) -> None:
        await self.sio.emit(event, data, namespace=PATH)

    async def call(self, event: str, data: Any = None) -> Any:
        """Emits, and waits for the acknowledgement."""
        return await self.sio.call(event, data, namespace=PATH, timeout=10)

    async def told(self, count: int) -> list[tuple[str, Any]]:
        """The first events, once there are so many."""
        async with asyncio.timeout(15):
            while len(self.events) < count:
                self._told.clear()
                await self._told.wait()
        return self.events

    def text(self) -> str:
        """All chunks' text."""
        return "".join(data["data"] for name, data in self.events if name == "inference_chunk")

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.sio.disconnect()
        await self.sio.eio.http.close() if self.sio.eio.http and not self.sio.eio.http.closed else None

    async def _note(self, event: str, data: Any = None) -> None:
        self.events.append((event, data))
        self._told.set()

    async def _note_end(self, reason: str) -> None:
        await self._note("disconnect", reason)
