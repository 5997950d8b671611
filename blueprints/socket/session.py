"""One Engine.IO session: what its client sends is bounded, and what is sent to it takes the shortest way in order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from engineio.async_socket import AsyncSocket
from engineio.exceptions import QueueEmpty, SocketIsClosedError
from engineio.packet import CLOSE, MESSAGE, PONG, UPGRADE, Packet
from sanic.server.websockets.impl import OPEN, WebsocketImplProtocol

from blueprints.outbox import MOST_UNSENT, Outbox
from blueprints.socket.frame_reader import FrameReader
from blueprints.socket.frames import frames
from blueprints.socket.limits import PACKETS_AT_ONCE, PACKETS_PER_S, WRITE_TIMEOUT_S, Allowance

MOST_QUEUED = 16  # packets; also what python-socketio's clients take of one poll


class Session(AsyncSocket):  # type: ignore[misc] # it carries no types
    """
    A client's session with two ways out: the library's queue, and the WebSocket itself.

    Packets are only written straight to the WebSocket while none is queued or in the hands of the one who sends the
    queue, so that both ways keep one order.
    """

    write_timeout_s: float = WRITE_TIMEOUT_S
    last_ping: float | None  # the library's
    has_joined = False  # a namespace

    def begin(self) -> None:
        """To be called before anything else happens to it."""
        self._allowance = Allowance(PACKETS_PER_S, PACKETS_AT_ONCE, _now())
        self._outbox: Outbox = self.server.outbox
        self._websocket: Any = None  # of Sanic, or a relayed one
        self._ping: asyncio.Task[None] | None = None
        self._taken = False  # packets were taken from the queue, and maybe not sent yet

    # -- to the client

    async def deliver(self, packets: Sequence[bytes]) -> None:
        """
        Sends Socket.IO packets, and waits while the client is slow.

        Raises ConnectionError when it is gone; one that takes nothing for `write_timeout_s` is cut off.
        """
        if not self.offer(packets):
            await self._in_time(self._deliver_slowly(packets))

    def offer(self, packets: Sequence[bytes]) -> bool:
        """Writes Socket.IO packets straight to the WebSocket; False, and nothing done, when something has to wait."""
        connection = self._straight()
        if connection is None or connection.transport.get_write_buffer_size() > MOST_UNSENT:
            return False
        self._outbox.put(connection.transport, frames(packets))
        return True

    async def send(self, pkt: Packet) -> None:
        """As the library's, behind what was written straight."""
        self._outbox.flush()
        await super().send(pkt)

    async def drained(self) -> None:
        """Returns when nothing waits to be sent. Raises ConnectionError as `deliver` does."""
        await self._in_time(self.queue.join())

    def _straight(self) -> Any:
        """The connection to write to, if nothing else is on its way to it."""
        websocket = self._websocket
        if not self.upgraded or self._taken or self.closing or not self.queue.empty():
            return None
        if not isinstance(websocket, WebsocketImplProtocol) or websocket.ws_proto.state is not OPEN:
            return None
        connection: Any = websocket.io_proto
        if connection.transport is None or connection.transport.is_closing():
            return None
        return connection

    async def _deliver_slowly(self, packets: Sequence[bytes]) -> None:
        if (connection := self._straight()) is not None:
            await _wait_until_writable(connection)
        if not self.offer(packets):
            await self._enqueue(packets)

    async def _enqueue(self, packets: Sequence[bytes]) -> None:
        for packet in packets:
            if self.queue.qsize() >= MOST_QUEUED:
                await self.queue.join()
            try:
                await self.send(Packet(MESSAGE, packet.decode()))
            except SocketIsClosedError:
                raise ConnectionResetError from None

    async def _in_time(self, sending: Any) -> None:
        try:
            async with asyncio.timeout(self.write_timeout_s):
                await sending
        except TimeoutError:
            await self._end()
            raise ConnectionAbortedError from None

    async def poll(self) -> list[Packet]:
        """As the library's, but no more at once than its clients take, and what is taken is known to be on its way."""
        self._taken = False  # whoever comes back for more has sent what he took
        try:
            async with asyncio.timeout(self.server.ping_interval + self.server.ping_timeout):
                packets = [await self.queue.get()]
        except (TimeoutError, asyncio.CancelledError):
            raise QueueEmpty from None
        while packets[-1] is not None and not self.queue.empty() and (self.closing or len(packets) < MOST_QUEUED):
            packets.append(self.queue.get_nowait())
        self._taken = True
        for _ in packets:
            self.queue.task_done()
        if packets[-1] is None and len(packets) > 1:  # the end is told by an empty list of its own
            self.queue.put_nowait(packets.pop())
        return [] if packets == [None] else packets

    # -- from the client

    async def receive(self, pkt: Packet) -> None:
        """Takes a packet; ends the session for one that makes no sense, or one too many."""
        if not _is_sound(pkt) or not self._allowance.take(_now()):
            await self._cut()
            raise SocketIsClosedError
        await super().receive(pkt)

    async def handle_post_request(self, environ: dict[str, Any]) -> None:
        """A body that is no sequence of packets ends the session; the library would take no notice of it."""
        try:
            await super().handle_post_request(environ)
        except Exception:  # noqa: BLE001 - the library lets out whatever a client's nonsense leads to
            await self._cut()
            raise SocketIsClosedError from None

    async def _websocket_handler(self, ws: Any) -> None:
        self._websocket = ws._sock  # noqa: SLF001 - the library's wrapper keeps it there
        direct = isinstance(self._websocket, WebsocketImplProtocol)
        try:
            await super()._websocket_handler(FrameReader(self._websocket) if direct else ws)
        finally:  # also when a frame was no packet
            await self._end()

    # -- its end

    def schedule_ping(self) -> None:
        """As the library's, but no ping outlives its session."""
        if self.last_ping:
            self.last_ping = None
            self._ping = self.server.start_background_task(self._send_ping)

    async def close(self, wait: bool = True, abort: bool = False, reason: str | None = None) -> None:  # noqa: FBT001, FBT002 - the library's
        """As the library's; whoever waits for packets, a poll or the WebSocket's writer, is told the end."""
        if not self.closing:
            await super().close(wait=False, abort=abort, reason=reason)
            self.queue.put_nowait(None)
        if self._ping is not None and self._ping is not asyncio.current_task():
            self._ping.cancel()

    async def _end(self) -> None:
        await self._cut()
        self.server.sockets.pop(self.sid, None)

    async def _cut(self) -> None:
        """Ends the session and its WebSocket at once; the library forgets it after the answer to its request."""
        await self.close(abort=True, reason=self.server.reason.TRANSPORT_ERROR)
        if isinstance(self._websocket, WebsocketImplProtocol):
            if (connection := self._websocket.io_proto) is not None and connection.transport is not None:
                connection.transport.abort()
        elif self._websocket is not None:
            await self._websocket.close()


def _is_sound(packet: Packet) -> bool:
    """Whether it is one that clients send, as text."""
    if packet.packet_type == MESSAGE:
        return isinstance(packet.data, str) and bool(packet.data)
    return packet.packet_type in (PONG, UPGRADE, CLOSE)


async def _wait_until_writable(connection: Any) -> None:
    await connection._can_write.wait()  # noqa: SLF001 - Sanic's "the transport takes more"
    if connection.transport is None or connection.transport.is_closing():
        raise ConnectionResetError


def _now() -> float:
    return asyncio.get_running_loop().time()
