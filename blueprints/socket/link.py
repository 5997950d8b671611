"""One request or WebSocket that is relayed between the worker that holds the connection and the session's owner."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from blueprints.socket.messages import Accept, Answer, End, Frame, OfLink, Taken

WINDOW = 32  # frames that may be on their way in one direction
REPORT = WINDOW // 2  # frames that are taken before the other side is told

Post = Callable[[OfLink], None]


class LinkEnded(OSError):
    """The other side, or the way to it, is gone. Engine.IO takes an OSError for the end of a WebSocket."""


class Link:
    """
    Both sides have one. Frames arrive in order and complete, or the link ends: a gap in their numbers is its end.

    `send`, `recv` and `close` are what python-socketio calls on a WebSocket of Sanic.
    """

    def __init__(self, link_id: str, peer: str, post: Post) -> None:
        self.id = link_id
        self.peer = peer  # the other worker
        self.reply: asyncio.Future[Answer | Accept | None] = asyncio.get_running_loop().create_future()
        self.accepted = False
        self.ended = False
        self._post = post
        self._inbox: deque[str] = deque()
        self._changed = asyncio.Event()
        self._sent = self._sent_taken = 0
        self._received = self._taken = 0

    async def send(self, data: str) -> None:
        """Sends one frame as soon as the other side has room. Raises LinkEnded."""
        while not self.ended and self._sent - self._sent_taken >= WINDOW:
            await self._change()
        if self.ended:
            raise LinkEnded
        self._post(Frame(self.id, self._sent, data))
        self._sent += 1

    async def recv(self) -> str | None:
        """The next frame; None at the end."""
        while not self._inbox:
            if self.ended:
                return None
            await self._change()
        self._taken += 1
        if self._taken % REPORT == 0 and not self.ended:
            self._post(Taken(self.id, self._taken))
        return self._inbox.popleft()

    def accept(self) -> None:
        """The owner takes the WebSocket."""
        self.accepted = True
        self._post(Accept(self.id))

    def answer(self, answer: Answer) -> None:
        """The owner's last word, if it takes no WebSocket."""
        self.end()
        self._post(answer)

    async def close(self) -> None:
        """As `close_now`."""
        self.close_now()

    def close_now(self) -> None:
        """Ends the link on both sides; a second time changes nothing. Raises StoreUnavailable when too much waits."""
        if not self.ended:
            self.end()
            self._post(End(self.id))

    def end(self) -> None:
        """Ends it on this side; frames that have arrived can still be taken."""
        self.ended = True
        if not self.reply.done():
            self.reply.set_result(None)
        self._wake()

    def receive(self, message: OfLink) -> None:
        """Takes what the other side sent."""
        match message:
            case Answer() | Accept():
                if not self.reply.done():
                    self.reply.set_result(message)
                self.ended = self.ended or isinstance(message, Answer)
            case Frame(number=number, data=data):
                self._put(number, data)
            case Taken(count=count):
                self._sent_taken = min(max(count, self._sent_taken), self._sent)
                self._wake()
            case End():
                self.end()

    def _put(self, number: int, data: str) -> None:
        if number != self._received or len(self._inbox) >= WINDOW + REPORT:
            self.end()
            return
        self._received += 1
        self._inbox.append(data)
        self._wake()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _wake(self) -> None:
        self._changed.set()
