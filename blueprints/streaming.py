"""Sends an answer as server-sent events: heartbeats while the node thinks, one end or one error."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sanic import Request

from blueprints.frames import HEARTBEAT, Frames
from blueprints.outbox import MOST_UNSENT, Outbox
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
        self._is_chunked = False  # the head has left, and the body goes on
        self._is_quiet = False  # nothing was sent for a while
        self._pause_s = heartbeat_s / 2
        self._heart = asyncio.get_running_loop().call_later(self._pause_s, self._beat)

    async def answer(self, stream: AnswerStream) -> None:
        """
        Sends everything of an answer, or what there was of it and an error; with it the body ends.

        To a HEAD request the head is all (RFC 9110, 9.3.2), and the node's work ends there. Raises TimeoutError when
        the client takes nothing.
        """
        frames = self._frames
        try:
            await self._send(frames.start())
            if self._http.head_only:
                self._http.head_response_ignored(b"", True)  # noqa: FBT003 - Sanic itself fails here: it awaits it
                return
            while pieces := await stream.flow(self._offer):
                await self._send(frames.pieces(pieces))
        except GatewayError as error:
            await self._send(frames.error(error), is_last=True)
        else:
            await self._send(frames.end(stream.completion), is_last=True)
        finally:
            self._heart.cancel()

    async def _send(self, frame: bytes, *, is_last: bool = False) -> None:
        """Writes, and waits while the client is slow."""
        self._outbox.flush()
        if self._connection._can_write.is_set():  # noqa: SLF001 - Sanic's "sending waits for nothing"
            await self._response.send(frame, is_last)
        else:
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await self._response.send(frame, is_last)
        self._is_quiet = False
        self._is_chunked = self._http.response_func == self._http.http1_response_chunked

    def _offer(self, pieces: list[str]) -> bool:
        """What `_send` does with pieces, without a task; nothing when the client does not keep up."""
        if not self._has_room():
            return False
        self._put(self._frames.pieces(pieces))
        self._is_quiet = False
        return True

    def _beat(self) -> None:
        if self._is_quiet and self._has_room():
            self._put(HEARTBEAT)
        self._is_quiet = True
        self._heart = asyncio.get_running_loop().call_later(self._pause_s, self._beat)

    def _has_room(self) -> bool:
        transport = self._transport
        return self._is_chunked and transport.get_write_buffer_size() <= MOST_UNSENT and not transport.is_closing()

    def _put(self, frame: bytes) -> None:
        """As a chunk (RFC 9112, 7.1)."""
        self._outbox.put(self._transport, b"%x\r\n%b\r\n" % (len(frame), frame))


async def open_event_stream(
    request: Request, status: int, headers: Mapping[str, str], heartbeat_s: float, frames: Frames
) -> EventStream:
    """Answers with the status and an event stream, which is ended by its `answer`."""
    response = await request.respond(Reply(None, status, {**STREAM_HEADERS, **headers}, "text/event-stream"))
    return EventStream(response, request.app.ctx.outbox, frames, heartbeat_s)
