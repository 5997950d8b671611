"""The end of an aiohttp server in a thread of its own."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

ACCEPTED_S = 0.01  # until what was accepted last is a connection of the server


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
