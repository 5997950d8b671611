"""Sends an answer as server-sent events: heartbeats while the node thinks, one end or one error."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from sanic import Request

from blueprints.frames import HEARTBEAT, Frames
from blueprints.outbox import Outbox, keeps_up
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
    """
    An open response that an answer's frames are written to.

    Once its head has left, no more than `heartbeat_s` pass without a byte: proxies end what looks dead.
    """

    __slots__ = (
        "_connection", "_frames", "_heart", "_http", "_is_chunked", "_is_quiet", "_outbox", "_pause_s", "_response",
        "_transport",
    )  # fmt: skip

    def __init__(self, response: Any, outbox: Outbox, frames: Frames, heartbeat_s: float) -> None:
        self._response = response
        self._outbox = outbox
        self._frames = frames
        self._http: Any = response.stream
        self._connection: Any = response.stream.protocol
        self._transport: asyncio.WriteTransport = self._connection.transport
        self._is_chunked = False  # the head has left
        self._is_quiet = False  # nothing was sent for a while
        self._pause_s = heartbeat_s / 2
        self._heart = asyncio.get_running_loop().call_later(self._pause_s, self._beat)

    async def answer(self, stream: AnswerStream) -> None:
        """
        Sends everything of an answer, or what there was of it and an error; with it the body ends.

        To a HEAD request the head is all (RFC 9110, 9.3.2), and the node's work ends there. Raises TimeoutError as
        `send` does.
        """
        frames = self._frames
        await self.send(frames.start())
        if self._http.head_only:
            self._http.head_response_ignored(b"", True)  # noqa: FBT003 - Sanic itself fails here: it awaits it
            return
        try:
            while pieces := await stream.flow(self._offer):
                await self.send(frames.pieces(pieces))
        except GatewayError as error:
            await self.send(frames.error(error), is_last=True)
        else:
            await self.send(frames.end(stream.completion), is_last=True)

    async def send(self, frame: bytes, *, is_last: bool = False) -> None:
        """Writes, and waits while the client is slow. Raises TimeoutError when it takes nothing."""
        self._outbox.flush()
        if self._connection._can_write.is_set():  # noqa: SLF001 - Sanic's "sending waits for nothing"
            await self._response.send(frame, is_last)
        else:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._response.send(frame, is_last)
        self._is_quiet = False
        self._is_chunked = self._http.response_func == self._http.http1_response_chunked

    def stop(self) -> None:
        """No more heartbeats."""
        self._heart.cancel()

    def _offer(self, pieces: list[str]) -> bool:
        """What `send` does with pieces, without a task; nothing when the client does not keep up."""
        if not (self._is_chunked and keeps_up(self._transport)):
            return False
        self._put(self._frames.pieces(pieces))
        self._is_quiet = False
        return True

    def _beat(self) -> None:
        if self._is_quiet and self._is_chunked and keeps_up(self._transport):
            self._put(HEARTBEAT)
        self._is_quiet = True
        self._heart = asyncio.get_running_loop().call_later(self._pause_s, self._beat)

    def _put(self, frame: bytes) -> None:
        """As a chunk (RFC 9112, 7.1)."""
        self._outbox.put(self._transport, b"%x\r\n%b\r\n" % (len(frame), frame))


@asynccontextmanager
async def event_stream(
    request: Request, status: int, headers: Mapping[str, str], heartbeat_s: float, frames: Frames
) -> AsyncIterator[EventStream]:
    """Answers with the status and an event stream, whose heart beats as long as the context lasts."""
    response = await request.respond(Reply(None, status, {**STREAM_HEADERS, **headers}, "text/event-stream"))
    events = EventStream(response, request.app.ctx.outbox, frames, heartbeat_s)
    try:
        yield events
    finally:
        events.stop()
