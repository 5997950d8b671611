"""The owner's side: a listener that stands for a client of another worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from core.errors import GatewayError
from core.inference.answers.answer import Answer, AnswerEnd
from core.inference.answers.link import OpenLink
from core.inference.answers.messages import (
    Beat,
    Cancel,
    Ended,
    Leave,
    Message,
    Pieces,
    Place,
    Resume,
    failed,
)


class Lending:
    """
    Sends what has gathered, waits until the other client has taken it, sends what has gathered meanwhile: one rule
    for order, loss and back-pressure.
    """

    def __init__(self, open_link: OpenLink, worker_id: str, asked: Resume, closed: Callable[[Lending], None]) -> None:
        self.asked = asked
        self.answer: Answer | None = None  # this listener's hold on it
        self._worker_id = worker_id
        self._closed = closed
        self._loop = asyncio.get_running_loop()
        self._link = open_link(asked.sender, lambda: Beat(asked.link, worker_id), self.close)
        self._sent, self._sent_at = 0, 0.0  # the number of the last thing sent, and when
        self._taken: asyncio.Future[None] = self._loop.create_future()
        self._is_closed = False

    # -- the listener

    def offer(self, first_seq: int, pieces: Sequence[str]) -> bool:
        """Never: each batch is acknowledged."""
        return False

    async def pieces(self, first_seq: int, pieces: Sequence[str]) -> None:
        message = Pieces(self.asked.link, self._worker_id, first_seq, list(pieces))
        await self._hand_over(message, first_seq + len(pieces) - 1)

    async def end(self, seq: int, end: AnswerEnd) -> None:
        await self._hand_over(Ended(self.asked.link, self._worker_id, seq, end), seq)
        self.close()

    async def error(self, seq: int, error: GatewayError) -> None:
        await self._hand_over(failed(self.asked.link, self._worker_id, seq, error), seq)
        self.close()

    async def _hand_over(self, message: Message, seq: int) -> None:
        if self._is_closed:
            raise ConnectionError("the other worker is gone")
        self._sent, self._sent_at = seq, self._loop.time()
        self._taken = self._loop.create_future()
        try:
            self._link.send(message)
        except ConnectionError:
            self.close()
            raise
        await self._taken

    # -- the other worker

    def hear(self, message: Message) -> None:
        """What the asker says."""
        self._link.heard()
        if isinstance(message, Place):
            self._look(message)
        elif isinstance(message, Cancel) and self.answer is not None:
            self.answer.cancel()
        elif isinstance(message, Leave):
            self.close()

    def _look(self, place: Place) -> None:
        if self._taken.done():
            return
        if place.taken >= self._sent:
            self._taken.set_result(None)
        elif place.arrived < self._sent and self._loop.time() - self._sent_at > self._link.patience_s:
            self.close()  # what was sent was lost on its way

    def close(self) -> None:
        """The other client is gone, or has all."""
        if self._is_closed:
            return
        self._is_closed = True
        self._link.close()
        self._closed(self)
        if not self._taken.done():
            self._taken.set_exception(ConnectionError("the other worker is gone"))
            self._taken.exception()  # nobody may be waiting
        if self.answer is not None:
            self.answer.detach()
