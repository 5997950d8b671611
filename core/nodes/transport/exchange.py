"""One request to a node and its answer: the parser fills it, its reader takes what comes, one timer watches it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Protocol

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from core.nodes.transport.failures import NodeBroken, NodeHungUp, NodeSilent

MAX_HEAD = 32 * 1024  # bytes of the answer before its body, interim (1xx) answers included
HIGH_WATER = 64 * 1024  # bytes of body that may wait for their reader; then the node has to wait
LINGER_S = 1.0  # how long an answer whose text has ended may take to end its framing

Take = Callable[[bytes], bool]  # takes some of a body, and says whether it wants more just now


class Line(Protocol):
    """The connection, as an exchange sees it."""

    def pause(self) -> None:
        """Lets the node wait."""
        ...

    def resume(self) -> None:
        """Goes on."""
        ...

    def free(self, *, reusable: bool) -> None:
        """The exchange is over; it does not touch the connection again."""
        ...


class Exchange:
    """
    An answer as it comes in. Times are those of the event loop's clock.

    Whoever holds it ends it with `release` (its text has been read) or `abort` (enough, or in doubt); both may be
    called again, and after each other.
    """

    __slots__ = (
        "_body",
        "_complete",
        "_context",
        "_due",
        "_error",
        "_failure",
        "_head_done",
        "_keep_alive",
        "_limit",
        "_line",
        "_lingers",
        "_loop",
        "_parser",
        "_paused",
        "_received",
        "_size",
        "_take",
        "_timer",
        "_until",
        "_waiter",
        "headers",
        "status",
    )

    def __init__(self, line: Line, limit: int, loop: asyncio.AbstractEventLoop) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}  # lower-case names
        self._line: Line | None = line
        self._limit = limit + MAX_HEAD  # bytes, framing included
        self._loop = loop
        self._parser = HttpResponseParser(self)
        self._received = self._size = 0
        self._body: list[bytes] = []
        self._head_done = self._complete = self._keep_alive = self._paused = self._lingers = False
        self._error: Exception | None = None
        self._take: Take | None = None
        self._failure: Exception | None = None  # of `_take`
        self._context: Context | None = None  # of its reader
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._until = self._due = 0.0

    # -- for the reader

    async def head(self, until: float) -> None:
        """Waits for `status` and `headers`. Raises NodeSilent, NodeBroken, or what it was interrupted with."""
        while not self._head_done:
            await self._wait(until)

    async def flow(self, take: Take, until: float) -> None:
        """
        Gives `take` the body as it comes, in the callback of the event loop that received it: a change of tasks for
        each token would cost more than all that is done with it.

        Returns when `take` wants no more just now, or at the body's end. Raises like `head`, and what `take` raises.
        """
        self._take, self._context = take, copy_context()
        self._watch(until)
        try:
            self._pass_on()
            while self._take is not None and not self._complete:
                await self._wait(self._until)
        finally:
            self._take = self._context = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def extend(self, until: float) -> None:
        """Gives the rest of what flows until then."""
        self._watch(until)

    async def read(self, limit: int, until: float) -> bytes:
        """The whole body. Raises like `head`, and NodeBroken when it has more than `limit` bytes."""
        body = bytearray()

        def take(data: bytes) -> bool:
            body.extend(data)
            if len(body) > limit:
                raise NodeBroken(f"its answer has more than {limit} bytes")
            return True

        await self.flow(take, until)
        return bytes(body)

    def release(self) -> None:
        """
        Gives the connection back for the next request.

        An answer whose text has ended may still owe the end of its framing (the last chunk of a stream often
        comes in a segment of its own): the connection waits for that on its own, for a moment.
        """
        self._lingers = True
        self._limit = self._received + HIGH_WATER
        self._resume()
        self._settle()
        if self._line is not None:
            self._watch(self._loop.time() + LINGER_S)

    def abort(self) -> None:
        """Ends the node's work: the connection is closed at once and never used again."""
        self._part(reusable=False)

    # -- for the connection

    def feed(self, data: bytes) -> None:
        """Takes bytes from the wire."""
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade):
            self.fail(NodeBroken("its answer is not HTTP"))
            return
        if self._take is not None:
            self._pass_on()
        if self._received > (self._limit if self._head_done else MAX_HEAD):
            self.fail(NodeBroken("its answer is too large"))
        elif self._size > HIGH_WATER and not self._paused and self._line is not None:
            self._paused = True
            self._line.pause()
        self._settle()

    def end(self) -> None:
        """The node has closed its side: the proper end of a body without a length, the cut of any other."""
        framed = b"content-length" in self.headers or b"transfer-encoding" in self.headers
        if self._head_done and not framed:
            self._complete = True
            self._wake()
            self._settle()
        elif not self._received:
            self.fail(NodeHungUp("it closed the connection"))
        elif not self._complete:
            self.fail(NodeBroken("it closed the connection within its answer"))

    def fail(self, error: Exception) -> None:
        """Ends the exchange with an error, which its reader meets behind the bytes that came before."""
        self._error = self._error or error
        self._part(reusable=False)

    def interrupt(self, error: Exception) -> None:
        """Like `fail`, but what came before is dropped, unless it is the whole answer."""
        if not self._complete:
            self._body, self._head_done = [], False
            self.fail(error)

    # -- for the parser

    def on_message_begin(self) -> None:
        """A second answer to one request: nobody's, so the connection can't be trusted any more."""
        if self._complete:
            raise NodeBroken("it answered twice")

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a trailer, which says nothing to us."""
        if not self._head_done:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head is there, unless it is an interim one (RFC 9110, 15.2)."""
        self.status = self._parser.get_status_code()
        if self.status < 200:
            self.headers.clear()
        else:
            self._head_done = True
            self._wake()

    def on_body(self, data: bytes) -> None:
        """Some of the body."""
        self._body.append(data)
        self._size += len(data)

    def on_message_complete(self) -> None:
        """The end of an answer, interim ones apart."""
        if self._head_done:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()  # asked later it has forgotten
            self._wake()

    # -- within

    def _pass_on(self) -> None:
        if not self._body or self._take is None or self._context is None:
            return
        body, self._body, self._size = self._body, [], 0
        if self._paused:
            self._resume()
        try:
            if self._context.run(self._take, body[0] if len(body) == 1 else b"".join(body)):
                return
        except Exception as failure:  # noqa: BLE001 - it is its reader's, who waits in `flow`
            self._failure = failure
        self._take = None
        self._wake()

    async def _wait(self, until: float) -> None:
        if self._error is not None:
            raise self._error
        self._watch(until)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch(self, until: float) -> None:
        # A timer that is due earlier will do: it looks at `_until` again. So a stream needs one timer, not one a chunk.
        self._until = until
        if self._timer is None or self._due > until:
            if self._timer is not None:
                self._timer.cancel()
            self._due, self._timer = until, self._loop.call_at(until, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None and not self._lingers:
            return
        if self._loop.time() < self._until:
            self._watch(self._until)
        else:
            self.fail(NodeSilent("it fell silent" if self._head_done else "it did not answer in time"))

    def _settle(self) -> None:
        """Parts from the connection once nobody reads any more and the answer is over."""
        if self._lingers and self._complete and self._line is not None:
            self._part(reusable=self._keep_alive)

    def _resume(self) -> None:
        self._paused = False
        if self._line is not None:
            self._line.resume()

    def _part(self, *, reusable: bool) -> None:
        if self._line is None:
            return
        line, self._line = self._line, None
        if self._timer is not None:
            self._timer.cancel()
        self._error = self._error or NodeBroken("the exchange was ended")
        self._wake()
        line.free(reusable=reusable)
        del self._parser  # it holds this exchange: without the circle both are gone at once
