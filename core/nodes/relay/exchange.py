"""One request to an agent and its answer: frames come in, one reader takes them out like an HTTP node's bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from core.nodes.relay import frames
from core.nodes.transport.exchange import Take
from core.nodes.transport.failures import NodeBroken, NodeSilent

JSON, EVENTS = {b"content-type": b"application/json"}, {b"content-type": b"text/event-stream"}


class Receiver(Protocol):
    """Whoever waits for an agent's answer to one request."""

    def feed(self, kind: str, frame: bytes) -> None:
        """Takes a frame of the agent; one of frames.ENDS is the last."""
        ...

    def fail(self, error: Exception) -> None:
        """No more will come."""
        ...


class RelayExchange:
    """
    An answer as it comes in: a `response` frame is a JSON body, all others are events of a stream.

    Times are those of the event loop's clock. `forget` is called once, when nobody waits for the agent any more.
    """

    status = 200

    def __init__(self, limit: int, forget: Callable[[], None]) -> None:
        self.headers: Mapping[bytes, bytes] = {}  # filled when the answer has begun
        self._limit = limit  # bytes
        self._forget: Callable[[], None] | None = forget
        self._received = 0
        self._frames: list[bytes] = []
        self._complete = False
        self._error: Exception | None = None
        self._news = asyncio.Event()
        self._until = 0.0

    # -- for the reader

    async def begun(self, until: float) -> None:
        """Waits for the first frame. Raises NodeSilent, NodeBroken, or what it was interrupted with."""
        self._until = until
        while not self.headers:
            await self._wait()

    async def flow(self, take: Take, until: float) -> None:
        """Gives `take` the frames as events until it wants no more just now, or the end. Raises like `begun`."""
        self._until = until
        while new := await self._next():
            if not take(b"".join(map(frames.event, new))):
                return

    def extend(self, until: float) -> None:
        """Gives the rest of what flows until then."""
        self._until = until

    async def read(self, limit: int, until: float) -> bytes:
        """All frames as they are: one, if the agent keeps to the protocol. Raises like `begun`, and NodeBroken."""
        body, self._until = bytearray(), until
        while new := await self._next():
            body += b"".join(new)
            if len(body) > limit:
                raise NodeBroken(f"its answer has more than {limit} bytes")
        return bytes(body)

    def release(self) -> None:
        """Its text has been read."""
        self._part()

    def abort(self) -> None:
        """Enough, or in doubt: what the agent still sends is dropped."""
        self.fail(NodeBroken("the exchange was ended"))

    # -- for the connection

    def feed(self, kind: str, frame: bytes) -> None:
        if self._complete or self._error is not None:
            return
        self._received += len(frame)
        if self._received > self._limit:
            self.fail(NodeBroken("its answer is too large"))
            return
        self.headers = JSON if kind == "response" else EVENTS
        self._frames.append(frame)
        self._news.set()
        if kind in frames.ENDS:
            self._complete = True
            self._part()

    def fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._news.set()
        self._part()

    def interrupt(self, error: Exception) -> None:
        """Like `fail`, but what came before is dropped, unless it is the whole answer."""
        if not self._complete:
            self._frames, self.headers = [], {}
            self.fail(error)

    # -- within

    async def _next(self) -> list[bytes]:
        while not self._frames and not self._complete:
            await self._wait()
        new, self._frames = self._frames, []
        return new

    async def _wait(self) -> None:
        if self._error is not None:
            raise self._error
        self._news.clear()
        try:
            async with asyncio.timeout_at(self._until):
                await self._news.wait()
        except TimeoutError:
            silent = NodeSilent("it fell silent" if self.headers else "it did not answer in time")
            self.fail(silent)
            raise silent from None

    def _part(self) -> None:
        if self._forget is not None:
            forget, self._forget = self._forget, None
            forget()
