"""An aiohttp server in a thread of its own, from its start to its end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, Self

from aiohttp import web

ACCEPTED_S = 0.01  # until what was accepted last is a connection of the server


class ThreadedServer:
    """A context manager. `_serve` sets `started` once it listens, and ends when `_stopped` is set."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listens; on a restart, on the same port."""
        started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(started)), daemon=True)
        self._thread.start()
        assert started.wait(10)

    def stop(self) -> None:
        """Refuses connections from here on, and cuts those that are open."""
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(10)

    async def _run(self, started: threading.Event) -> None:
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        await self._serve(started)

    async def _serve(self, started: threading.Event) -> None:
        raise NotImplementedError


async def end(runner: web.AppRunner) -> None:
    """
    Accepts no more, and then ends the server with all of its connections.

    A connection that is just being accepted when its server closes is left open by asyncio (Python 3.11). The
    garbage collector finds it later, and then it counts against some other test.
    """
    loop = asyncio.get_running_loop()
    for site in runner.sites:
        server: Any = site._server
        for listener in server.sockets:
            loop.remove_reader(listener.fileno())
    await asyncio.sleep(ACCEPTED_S)
    assert runner.server is not None
    transports = [connection.transport for connection in runner.server.connections]
    await runner.cleanup()
    for transport in filter(None, transports):
        transport.abort()
    await asyncio.sleep(0)
