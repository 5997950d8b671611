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
MOST_UNSENT = 64 * 1024  # bytes that may wait for the client; then the node has to wait
WRITE_TIMEOUT_S = 30  # a client that takes nothing for so long is cut off


class EventStream:
    """An open response that an answer's frames are written to."""

    __slots__ = ("_connection", "_frames", "_http", "_is_chunked", "_is_quiet", "_outbox", "_response", "_transport")

    def __init__(self, response: Any, outbox: Outbox, frames: Frames) -> None:
        self._response = response
        self._outbox = outbox
        self._frames = frames
        self._http: Any = response.stream
        self._connection: Any = response.stream.protocol
        self._transport: asyncio.WriteTransport = self._connection.transport
        self._is_chunked = False  # the head has left
        self._is_quiet = False  # nothing was sent for a while

    async def answer(self, stream: AnswerStream) -> None:
        """Sends everything of an answer, or what there was of it and an error. Raises TimeoutError as `send` does."""
        frames = self._frames
        if start := frames.start():
            await self.send(start)
        try:
            while pieces := await stream.flow(self._offer):
                await self.send(frames.pieces(pieces))
        except GatewayError as error:
            await self.send(frames.error(error))
        else:
            await self.send(frames.end(stream.completion))

    async def send(self, frame: bytes) -> None:
        """Writes, and waits while the client is slow. Raises TimeoutError when it takes nothing."""
        self._outbox.flush()
        if self._connection._can_write.is_set():  # noqa: SLF001 - Sanic's "sending waits for nothing"
            await self._response.send(frame)
        else:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._response.send(frame)
        self._is_quiet = False
        self._is_chunked = self._http.response_func == self._http.http1_response_chunked

    async def beat(self, every_s: float) -> None:
        """Keeps the connection alive through proxies: `every_s` is the longest time without a byte."""
        while True:
            self._is_quiet = True
            await asyncio.sleep(every_s / 2)
            if self._is_quiet:
                await self.send(HEARTBEAT)

    def _offer(self, pieces: list[str]) -> bool:
        """What `send` does with pieces, without a task (RFC 9112, 7.1); nothing when the client does not keep up."""
        transport = self._transport
        if not self._is_chunked or transport.get_write_buffer_size() > MOST_UNSENT or transport.is_closing():
            return False
        frame = self._frames.pieces(pieces)
        self._outbox.put(transport, b"%x\r\n%b\r\n" % (len(frame), frame))
        self._is_quiet = False
        return True


@asynccontextmanager
async def event_stream(
    request: Request, status: int, headers: Mapping[str, str], heartbeat_s: float, frames: Frames
) -> AsyncIterator[EventStream]:
    """Answers with the status and an event stream; the body ends with the context."""
    response = await request.respond(Reply(None, status, {**STREAM_HEADERS, **headers}, "text/event-stream"))
    events = EventStream(response, request.app.ctx.outbox, frames)
    heart = asyncio.create_task(events.beat(heartbeat_s))
    try:
        yield events
    finally:
        heart.cancel()
        await asyncio.gather(heart, return_exceptions=True)
    await response.eof()
