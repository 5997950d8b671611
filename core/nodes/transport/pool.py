"""The connections of this process to its nodes, kept open between requests."""

from __future__ import annotations

import asyncio
import ssl
from collections import defaultdict, deque
from contextlib import suppress
from ipaddress import ip_address

from core.nodes.address_guard import AddressGuard, RefusedAddress
from core.nodes.node_url import InvalidUrl
from core.nodes.transport.connection import Connection
from core.nodes.transport.exchange import Exchange
from core.nodes.transport.failures import NodeHungUp, NodeSilent, NodeUnreachable
from core.nodes.transport.origin import Origin, Request, Target, target

IDLE_S = 15.0  # servers commonly drop idle connections from 5 s to 75 s on; a race with that costs one more round trip


class ConnectionPool:
    """
    Sends requests, over an idle connection when there is one.

    It belongs to the running event loop. `guard` says where connections may lead (only to public addresses by
    default); `secret` goes to the nodes that it trusts, as a bearer token; `tls` is the context for https nodes (the
    system's authorities by default); `idle_s` is how long a connection waits for its next request.
    """

    def __init__(
        self,
        connect_timeout_s: float,
        *,
        guard: AddressGuard | None = None,
        secret: str | None = None,
        tls: ssl.SSLContext | None = None,
        idle_s: float = IDLE_S,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._idle_s = idle_s
        self._guard = guard or AddressGuard()
        self._secret = secret
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._idle: defaultdict[Origin, deque[Connection]] = defaultdict(deque)
        self._open: dict[Connection, Origin] = {}
        self._interruption: Exception | None = None
        self._sweeper: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()

    async def post(self, url: str, request: Request, until: float) -> Exchange:
        """
        The answer of the node at `url`, with its head read; `until` is loop time.

        Raises NodeUnreachable, NodeSilent, NodeBroken, or what the pool was interrupted with.
        """
        to = self._target(url, request.path)
        if (idle := self._take(to.origin)) is not None:
            try:
                return await self._ask(idle, to.head, request, until)
            except NodeHungUp:
                pass  # the node closed the idle connection just now: it did not see the request (RFC 9112, 9.3.1)
        return await self._ask(await self._connect(to.origin, until), to.head, request, until)

    def give_up(self, url: str) -> None:
        """The node at `url` is known to be gone: whoever still waits for its answer to begin need not go on."""
        origin = self._target(url, "").origin
        for connection in [connection for connection, to in self._open.items() if to == origin]:
            if connection.exchange is not None and not connection.exchange.status:
                connection.exchange.fail(NodeSilent("it went offline"))

    def interrupt(self, error: Exception) -> None:
        """Makes all running exchanges fail with this error at once, and every later one too: the process is ending."""
        self._interruption = error
        for connection in list(self._open):
            if connection.exchange is not None:
                connection.exchange.interrupt(error)

    async def aclose(self) -> None:
        """Closes all connections and waits until they are gone."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._empty.clear()
        for connection in list(self._open):
            connection.transport.abort()
        if self._open:
            await self._empty.wait()

    @property
    def connections(self) -> int:
        """How many are open, idle ones included."""
        return len(self._open)

    def _target(self, url: str, path: str) -> Target:
        try:
            return target(url, path, self._secret, trusted=self._guard.trusts(url))
        except InvalidUrl as problem:
            raise NodeUnreachable(str(problem)) from problem

    async def _ask(self, connection: Connection, head: bytes, request: Request, until: float) -> Exchange:
        if self._interruption is not None:
            connection.transport.abort()
            raise self._interruption
        exchange = connection.begin(b"%b%d\r\n\r\n%b" % (head, len(request.body), request.body), request.limit)
        try:
            await exchange.head(until)
        except BaseException:  # a cancelled reader, too, leaves a connection that nobody can use
            exchange.abort()
            raise
        return exchange

    async def _connect(self, origin: Origin, until: float) -> Connection:
        due = min(self._loop.time() + self._connect_timeout_s, until)
        try:
            async with asyncio.timeout_at(due):
                connection = await self._reach(origin)
        except (OSError, RefusedAddress) as problem:
            raise NodeUnreachable(type(problem).__name__) from problem
        if connection.transport.is_closing():
            raise NodeUnreachable("it closed the connection")
        self._open[connection] = origin
        return connection

    async def _reach(self, origin: Origin) -> Connection:
        """A connection to the first address that takes one. Raises OSError, RefusedAddress."""
        addresses = await self._guard.addresses(origin.host, origin.port, trusted=origin.trusted)
        for address in addresses[:-1]:
            with suppress(OSError):
                return await self._connect_to(address, origin)
        return await self._connect_to(addresses[-1], origin)

    async def _connect_to(self, address: str, origin: Origin) -> Connection:
        """To this very address: the name is only for TLS, since the DNS might say something else by now."""
        if origin.tls and self._tls is None:
            self._tls = ssl.create_default_context()
        transport, connection = await self._loop.create_connection(
            lambda: Connection(self._park, self._forget, self._loop),
            address,
            origin.port,
            ssl=self._tls if origin.tls else None,
            server_hostname=origin.host if origin.tls else None,
        )
        peer = transport.get_extra_info("peername")
        if peer and ip_address(peer[0]) != ip_address(address):
            transport.abort()
            raise RefusedAddress("the connection leads elsewhere")
        return connection

    def _take(self, origin: Origin) -> Connection | None:
        idle = self._idle[origin]
        while idle:
            connection = idle.pop()
            if not connection.transport.is_closing():
                return connection
        return None

    def _park(self, connection: Connection) -> None:
        self._idle[self._open[connection]].append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_s, self._sweep)

    def _forget(self, connection: Connection) -> None:
        origin = self._open.pop(connection, None)
        if origin is not None and connection in (idle := self._idle[origin]):
            idle.remove(connection)
        if not self._open:
            self._empty.set()

    def _sweep(self) -> None:
        """Drops what was idle for too long, and looks again when the next one may be due."""
        due = self._loop.time() - self._idle_s + 0.01
        for idle in self._idle.values():
            while idle and idle[0].idle_since <= due:
                idle.popleft().transport.abort()
        oldest = min((idle[0].idle_since for idle in self._idle.values() if idle), default=None)
        self._sweeper = None if oldest is None else self._loop.call_at(oldest + self._idle_s, self._sweep)
