"""The end of a worker's sessions: their clients are let go, so that they reconnect to another worker."""

from __future__ import annotations

import asyncio

from blueprints.socket.relay import Relay
from blueprints.socket.server import SocketServer

LAST_WORDS_S = 0.5  # what interrupted answers have to send their error
FLUSH_S = 1.0
LOOK_S = 0.1


class Sessions:
    """All sessions of this worker, and those that it relays."""

    def __init__(self, server: SocketServer, relay: Relay) -> None:
        self._server = server
        self._engine = server.eio
        self._relay = relay

    async def end_idle(self) -> None:
        """Ends each one as soon as it waits for no answer, until this is cancelled."""
        while True:
            busy = self._server.busy_sessions()
            for session_id in self._engine.sockets.keys() - busy:
                await self._engine.end(session_id)
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """
        Ends all after all that is queued for them, and after the last words of answers that were just interrupted.

        Clients see a lost connection, not a server's disconnect: after that one they would stay away.
        """
        await asyncio.sleep(LAST_WORDS_S)
        ending = [asyncio.create_task(self._engine.end(session_id)) for session_id in tuple(self._engine.sockets)]
        if ending:
            await asyncio.wait(ending, timeout=FLUSH_S)
        self._relay.close_links()
