"""The end of a worker's sessions: their clients are let go, so that they reconnect to another worker."""

from __future__ import annotations

import asyncio

from blueprints.socket.relay import Relay
from blueprints.socket.server import Engine

LAST_WORDS_S = 0.5  # what interrupted answers have to send their error
FLUSH_S = 1.0


class Sessions:
    """All sessions of this worker, and those that it relays."""

    def __init__(self, engine: Engine, relay: Relay) -> None:
        self._engine = engine
        self._relay = relay

    async def end(self) -> None:
        """
        Ends them after all that is queued for them, and after the last words of answers that were just interrupted.

        Clients see a lost connection, not a server's disconnect: after that one they would stay away.
        """
        await asyncio.sleep(LAST_WORDS_S)
        ending = [asyncio.create_task(self._engine.end(session_id)) for session_id in tuple(self._engine.sockets)]
        if ending:
            await asyncio.wait(ending, timeout=FLUSH_S)
        self._relay.close_links()
