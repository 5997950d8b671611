"""A TCP or TLS connection to a node: one exchange at a time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from core.nodes.transport.exchange import Exchange

# A node whose machine is gone is noticed within half a minute, even while it owes a whole answer.
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


class Connection(asyncio.Protocol):
    """
    Carries requests one after another. `on_free` is told when it could take the next one, `on_lost` when it is gone.
    """

    __slots__ = ("_loop", "_on_free", "_on_lost", "exchange", "idle_since", "transport")

    transport: asyncio.Transport

    def __init__(
        self,
        on_free: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._on_free = on_free
        self._on_lost = on_lost
        self._loop = loop
        self.exchange: Exchange | None = None
        self.idle_since = 0.0

    def begin(self, request: bytes, limit: int) -> Exchange:
        """Sends a request; its answer may have up to `limit` bytes of body."""
        self.exchange = exchange = Exchange(self, limit, self._loop)
        self.transport.write(request)
        return exchange

    # -- for the exchange

    def pause(self) -> None:
        """Reads nothing for now: TCP lets the node wait."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def free(self, *, reusable: bool) -> None:
        """The exchange is over."""
        self.exchange = None
        if not reusable or self.transport.is_closing():
            self.transport.abort()
            return
        self.idle_since = self._loop.time()
        self._on_free(self)

    # -- for the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Asks the kernel to look after the connection while nothing is said on it."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's own class is none by name
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE.items():
            if hasattr(socket, option):  # macOS lacks one of them
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)

    def data_received(self, data: bytes) -> None:
        """Bytes for the exchange. Without one nobody asked for them."""
        if self.exchange is None:
            self.transport.abort()
        else:
            self.exchange.feed(data)

    def eof_received(self) -> None:
        """The node says no more; the transport closes itself."""
        if self.exchange is not None:
            self.exchange.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone, for whatever reason."""
        if self.exchange is not None:
            self.exchange.end()
        self._on_lost(self)
