"""What streams have to say in one turn of the event loop, sent at its end."""

from __future__ import annotations

import asyncio

MOST_UNSENT = 64 * 1024  # bytes that may wait for one client; then the node has to wait
MOST_WAITING = 64 * 1024  # bytes that wait here, for all of them: the connections' own limits do not see it


class Outbox:
    """
    Writes back to back what was gathered, one client after the other.

    A token's way through the gateway takes longer than a client needs to take it. Written each by itself, every token
    finds its client's side of the kernel asleep and has to wake it, which costs as much again.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting: list[tuple[asyncio.WriteTransport, bytes]] = []
        self._size = 0  # bytes of what waits

    def put(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Sends soon, in the order of the calls; a connection that is closed until then gets nothing."""
        if not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append((transport, data))
        self._size += len(data)
        if self._size > MOST_WAITING:
            self.flush()

    def flush(self) -> None:
        """Sends now: to be called before something else is written to one of the transports."""
        waiting, self._waiting, self._size = self._waiting, [], 0
        for transport, data in waiting:
            if not transport.is_closing():
                transport.write(data)
