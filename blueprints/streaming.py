"""Sends an answer as server-sent events: heartbeats while the node thinks, one end or one error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sanic import Request

from blueprints.frames import HEARTBEAT, Frames
from blueprints.outbox import Outbox
from blueprints.replies import Reply
from core.errors import GatewayError
from core.inference.streaming import AnswerStream

STREAM_HEADERS = {
    "Cache-Control": "private, no-cache, no-store, must-revalidate, max-age=0, no-transform",
    "Pragma": "no-cache",
    "X-Accel-Buffering": "no",
}
WRITE_TIMEOUT_S = 30  # a client that takes nothing for so long is cut off


class EventStream:
    """An open response that frames are written to."""

    __slots__ = ("_connection", "_http", "_is_chunked", "_loop", "_outbox", "_response", "_room", "_sent_at")

    def __init__(self, response: Any, outbox: Outbox) -> None:
        self._response = response
        self._outbox = outbox
        self._http: Any = response.stream
        self._connection: Any = response.stream.protocol
        self._room: asyncio.Event = self._connection._can_write  # noqa: SLF001 - Sanic's "sending waits for nothing"
        self._loop = asyncio.get_running_loop()
        self._sent_at = self._loop.time()
        self._is_chunked = False

    async def send(self, frame: bytes) -> None:
        """Writes, and waits while the client is slow. Raises TimeoutError when it takes nothing."""
        self._outbox.flush()
        if self._room.is_set():
            await self._response.send(frame)
        else:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._response.send(frame)
        self._sent_at = self._loop.time()
        self._is_chunked = self._http.response_func == self._http.http1_response_chunked

    @property
    def has_room(self) -> bool:
        """Whether a frame can be written at once: the head has left, and nobody waits for the client."""
        return self._is_chunked and self._room.is_set() and not self._connection.transport.is_closing()

    def write(self, frame: bytes) -> None:
        """What `send` does with a frame when there is room, without a task (RFC 9112, 7.1)."""
        self._outbox.put(self._connection.transport, b"%x\r\n%b\r\n" % (len(frame), frame))
        self._sent_at = self._loop.time()

    async def beat(self, every_s: float) -> None:
        """Keeps the connection alive through proxies whenever nothing was sent for `every_s`."""
        while True:
            idle_s = self._loop.time() - self._sent_at
            if idle_s >= every_s:
                await self.send(HEARTBEAT)
            await asyncio.sleep(max(every_s - idle_s, 0.05))


@asynccontextmanager
async def event_stream(
    request: Request, status: int, headers: Mapping[str, str], heartbeat_s: float
) -> AsyncIterator[EventStream]:
    """Answers with the status and an event stream; the body ends with the context."""
    response = await request.respond(Reply(None, status, {**STREAM_HEADERS, **headers}, "text/event-stream"))
    events = EventStream(response, request.app.ctx.outbox)
    heart = asyncio.create_task(events.beat(heartbeat_s))
    try:
        yield events
    finally:
        heart.cancel()
        await asyncio.gather(heart, return_exceptions=True)
    await response.eof()


async def send_answer(events: EventStream, stream: AnswerStream, frames: Frames) -> None:
    """Everything of an answer, or what there was of it and an error."""

    def offer(pieces: list[str]) -> bool:
        if not events.has_room:
            return False
        events.write(frames.pieces(pieces))
        return True

    if start := frames.start():
        await events.send(start)
    try:
        while pieces := await stream.flow(offer):
            await events.send(frames.pieces(pieces))
    except GatewayError as error:
        await events.send(frames.error(error))
    else:
        await events.send(frames.end(stream.completion))
