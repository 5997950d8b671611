"""How a connection's requests are read: Sanic's parser, held to the letter of RFC 9112 and to a deadline."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from typing import Any, ClassVar

from sanic.exceptions import BadRequest, PayloadTooLarge, RequestTimeout, SanicException
from sanic.http import Http, Stage
from sanic.http.http1 import HTTP_CONTINUE

from blueprints.request_head import is_sound

CHUNKED = "chunked"
CHUNK_LINE_MAX = 256
# CRLF ends what is before it: the head or the former chunk.
_CHUNK_LINE = re.compile(rb"\r\n([0-9A-Fa-f]{1,16})(?:[\t ]*;[\t -~\x80-\xff]*)?\r\n")


class TooSlow(RequestTimeout, BadRequest):
    """A request that did not arrive in time. Sanic drops a connection when the rest of a body is a BadRequest."""


class RequestReader(Http):
    """
    Reads the requests of one connection, one after the other.

    A request's head has `HEAD_S` from its first byte on. Its body has `BODY_S` from the moment on that somebody waits
    for it, and a second more for each `RATE` bytes that have come, so what comes in steadily is never cut off.
    """

    __slots__ = ("_waiting_since",)

    HEAD_S: ClassVar[float] = 10.0
    BODY_S: ClassVar[float] = 15.0
    RATE: ClassVar[int] = 32 * 1024
    LINGER_S: ClassVar[float] = 2.0

    # Sanic declares these as what they are at first.
    request: Any
    request_body: Any
    request_bytes: Any
    request_bytes_left: Any
    protocol: Any

    def init_for_request(self) -> None:
        """Forgets the former request."""
        Http.init_for_request(self)
        self._waiting_since = 0.0

    def deadline(self) -> float | None:
        """When more of the request has to be there, in the loop's time; None between two requests."""
        allowed: float
        if self.request_body:
            allowed = self.BODY_S + (self.request_bytes - self.request_bytes_left) / self.RATE
        elif self.stage is Stage.REQUEST:
            allowed = self.HEAD_S
        else:
            return None
        if not self._waiting_since:
            self._waiting_since = asyncio.get_running_loop().time()
        return self._waiting_since + allowed

    async def http1_request_header(self) -> None:
        """Reads a head. Raises BadRequest, PayloadTooLarge, TooSlow."""
        await Http.http1_request_header(self)
        self._waiting_since = 0.0
        if not is_sound(self.request.head):
            self.request_body = None  # nobody knows where it ends
            self.request = None
            raise BadRequest

    async def read(self) -> bytes | None:
        """The next piece of the body; None at its end. Raises BadRequest, PayloadTooLarge, TooSlow."""
        if self.request_body == CHUNKED and not self.request_bytes_left:
            await self._open_chunk()
        try:
            return await Http.read(self)
        except PayloadTooLarge:
            if self.stage is Stage.IDLE:  # it was answered so
                await self._linger()
            raise

    async def _linger(self) -> None:
        """
        Takes what the client still sends, for a moment, or until it is gone.

        A connection that is closed with bytes unread takes the answer back (RFC 9112, 9.6).
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(self.LINGER_S):
                while True:
                    self.recv_buffer.clear()
                    await self._receive_more()

    async def _open_chunk(self) -> None:
        """Reads the line before a chunk; after the last chunk, which is empty, the end of the body (RFC 9112, 7.1)."""
        if self.expecting_continue:
            self.expecting_continue = False
            await self._send(HTTP_CONTINUE)
        buffer = self.recv_buffer
        while buffer.find(b"\r\n", 2, CHUNK_LINE_MAX) < 0 and len(buffer) < CHUNK_LINE_MAX:
            await self._receive_more()
        line = _CHUNK_LINE.match(buffer, 0, CHUNK_LINE_MAX)
        if line is None:
            raise self._malformed()
        size, end = int(line[1], 16), line.end()
        if not size:
            while len(buffer) < end + 2:
                await self._receive_more()
            if buffer[end : end + 2] != b"\r\n":  # a trailer could be read as the next request
                raise self._malformed()
            end, self.request_body = end + 2, None
        del buffer[:end]
        self.request_bytes_left = size
        self.request_bytes += size

    def _malformed(self) -> BadRequest:
        self.keep_alive = False
        return BadRequest("Bad chunked encoding")

    def create_empty_request(self) -> None:
        """A request that an error's answer can refer to; of a target that can't be parsed it has nothing."""
        try:
            Http.create_empty_request(self)
        except SanicException:
            self.url = None
            Http.create_empty_request(self)
