"""One end of a conversation between two workers: it shows that it lives, and notices when the other one does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

import msgspec

from core import redis_keys
from core.bus import Bus
from core.errors import StoreUnavailable
from core.inference.answers.messages import Message, encode

PURPOSE = "answers"
BEAT_S = 2.0
MISSED = 3  # beats without a word: the other one is gone

# To a peer, with what to say in a beat and what to do when it is gone.
OpenLink = Callable[[str, Callable[[], Message], Callable[[], None]], "Link"]


class Link:
    """
    Messages to `peer`, and a beat every `beat_s`. `lost` is called once, after three beats without a word.

    The bus loses messages when Redis breaks, so both sides say in their beats where they are.
    """

    def __init__(
        self, bus: Bus, beat_s: float, peer: str, beat: Callable[[], Message], lost: Callable[[], None]
    ) -> None:
        self.patience_s = MISSED * beat_s
        self._beat_s = beat_s
        self._bus = bus
        self._topic = redis_keys.to_worker(peer, PURPOSE)
        self._beat = beat
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._heard_at = self._loop.time()
        self._timer = self._loop.call_later(self._beat_s, self._tick)

    def heard(self) -> None:
        """The other side has said something."""
        self._heard_at = self._loop.time()

    def send(self, message: Message) -> None:
        """Says something. Raises ConnectionError when that can't be done."""
        try:
            self._bus.post(self._topic, encode(message))
        except (StoreUnavailable, UnicodeEncodeError, msgspec.MsgspecError) as problem:
            raise ConnectionError("the message can't be sent") from problem

    def close(self) -> None:
        """Falls silent."""
        self._timer.cancel()

    def _tick(self) -> None:
        if self._loop.time() - self._heard_at > self.patience_s:
            self._lost()
            return
        self._timer = self._loop.call_later(self._beat_s, self._tick)
        with suppress(ConnectionError):  # if it lasts, the silence is noticed
            self.send(self._beat())
