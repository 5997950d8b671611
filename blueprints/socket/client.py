"""One client of /ws/inference: who it says it is, what it may still ask, and the answers that it listens to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from blueprints.socket.events import failure
from blueprints.socket.frames import event
from blueprints.socket.limits import (
    EVENTS_AT_ONCE,
    EVENTS_PER_S,
    MOST_ANSWERS,
    Allowance,
    too_many_answers,
    too_many_events,
)
from blueprints.socket.session import Session
from core.errors import GatewayError, Unauthenticated
from core.inference.answers import Answer, Listener


class Client:
    """A connection. `hang_up` ends it after what was sent to it."""

    __slots__ = ("_allowance", "_answers", "_gone", "_hang_up", "_session", "token")

    def __init__(self, session: Session, token: str, hang_up: Callable[[], None]) -> None:
        self.token = token
        self._session = session
        self._hang_up = hang_up
        self._allowance = Allowance(EVENTS_PER_S, EVENTS_AT_ONCE, asyncio.get_running_loop().time())
        self._answers: dict[Listener, Answer | None] = {}
        self._gone = False

    @property
    def session_id(self) -> str:
        """Of Engine.IO."""
        return str(self._session.sid)

    @property
    def is_busy(self) -> bool:
        """Whether it waits for answers."""
        return bool(self._answers)

    # -- from the client

    def count_event(self) -> None:
        """Raises RateLimited."""
        if not self._allowance.take(asyncio.get_running_loop().time()):
            raise too_many_events()

    def expect(self, listener: Listener) -> None:
        """Makes room for one more answer. Raises RateLimited."""
        if len(self._answers) >= MOST_ANSWERS:
            raise too_many_answers()
        self._answers[listener] = None

    def attach(self, listener: Listener, answer: Answer) -> None:
        """The answer that the listener hears, which may be over already; or the client is gone meanwhile."""
        if self._gone:
            answer.detach()
        elif listener in self._answers:
            self._answers[listener] = answer

    def release(self, listener: Listener) -> None:
        """The listener hears nothing more."""
        self._answers.pop(listener, None)

    def leave(self, *, for_good: bool) -> None:
        """The connection has ended: by the client's own word, or the link is gone and it may come back."""
        self._gone = True
        answers, self._answers = self._answers, {}
        for answer in filter(None, answers.values()):
            if for_good:
                answer.cancel()
            answer.detach()

    # -- to the client; what waits raises ConnectionError when it is gone

    def offer(self, packets: Sequence[bytes]) -> bool:
        """Sends what is encoded already, if nothing has to wait for that; else sends nothing."""
        return self._session.offer(packets)

    async def deliver(self, packets: Sequence[bytes]) -> None:
        """Sends what is encoded already."""
        await self._session.deliver(packets)

    async def send(self, name: str, data: Any) -> None:
        """Sends an event."""
        await self._session.deliver([event(name, data)])

    async def refuse(self, error: GatewayError, request_id: str | None = None) -> None:
        """Tells of an error; one who is not known (any more) is let go."""
        await self.send("inference_error", failure(error, request_id))
        if isinstance(error, Unauthenticated):
            self._hang_up()
