"""The asker's side: an answer that another worker makes, for a listener of ours."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from core.errors import AnswerLost, GatewayError
from core.inference.answers.answer import Listener
from core.inference.answers.link import Link, OpenLink
from core.inference.answers.messages import Cancel, Ended, Failed, Leave, Message, Pieces, Place, error_of

log = logging.getLogger(__name__)

Event = Pieces | Ended | Failed


class Borrowing:
    """Gives the listener what the owner sends, and tells the owner each time that it was taken."""

    def __init__(
        self, key: tuple[bytes, str], listener: Listener, after_seq: int, closed: Callable[[Borrowing], None]
    ) -> None:
        self.link_id, self._worker_id = key
        self.owner: str | None = None
        self._listener = listener
        self._arrived = self._taken = after_seq
        self._closed = closed
        self._events: asyncio.Queue[Event | GatewayError] = asyncio.Queue()
        self._over = asyncio.Event()
        self._link: Link | None = None
        self._task: asyncio.Task[None] | None = None

    def begin(self, open_link: OpenLink, owner: str) -> None:
        """The owner is found."""
        self.owner = owner
        self._link = open_link(owner, self._place, lambda: self.fail(AnswerLost()))
        self._task = asyncio.create_task(self._deliver())

    def hear(self, message: Message) -> None:
        """What the owner says."""
        if self._link is not None:
            self._link.heard()
        if isinstance(message, Event):
            self._arrived = _last(message)
            self._events.put_nowait(message)

    def fail(self, error: GatewayError) -> None:
        """Nothing more will come; the listener is told after what it has to take yet."""
        self._events.put_nowait(error)

    def detach(self) -> None:
        """The link is gone: the owner keeps the answer for the resume window."""
        if not self._over.is_set():
            self._send(Leave(self.link_id, self._worker_id))
            self._close()
            if self._task is not None:
                self._task.cancel()

    def cancel(self) -> None:
        """Has the owner stop the answer."""
        if not self._over.is_set():
            self._send(Cancel(self.link_id, self._worker_id))

    async def wait(self) -> None:
        """Until the listener gets nothing more."""
        await self._over.wait()

    async def _deliver(self) -> None:
        try:
            while isinstance(event := await self._events.get(), Pieces):
                await self._listener.pieces(event.first_seq, event.pieces)
                self._took(event)
            await self._finish(event)
        except (ConnectionError, TimeoutError):
            self._send(Leave(self.link_id, self._worker_id))
        except Exception:
            log.exception("a listener failed")
            self._send(Leave(self.link_id, self._worker_id))
        self._close()

    async def _finish(self, event: Ended | Failed | GatewayError) -> None:
        if isinstance(event, GatewayError):
            self._send(Leave(self.link_id, self._worker_id))
            await self._listener.error(self._taken + 1, event)
        elif isinstance(event, Failed):
            await self._listener.error(event.seq, error_of(event))
            self._took(event)
        else:
            await self._listener.end(event.seq, event.end)
            self._took(event)

    def _took(self, event: Event) -> None:
        self._taken = _last(event)
        self._send(self._place())

    def _place(self) -> Place:
        return Place(self.link_id, self._worker_id, self._arrived, self._taken)

    def _send(self, message: Message) -> None:
        try:
            if self._link is not None:
                self._link.send(message)
        except ConnectionError:
            pass  # the owner will notice the silence

    def _close(self) -> None:
        if not self._over.is_set():
            self._over.set()
            if self._link is not None:
                self._link.close()
            self._closed(self)


def _last(event: Event) -> int:
    """The number of the last thing in it."""
    return event.first_seq + len(event.pieces) - 1 if isinstance(event, Pieces) else event.seq
