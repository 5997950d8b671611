"""One listener's way through an answer: what it missed first, then what comes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from core.errors import GatewayError, UnknownAnswer
from core.inference.answers.answer import Listener
from core.inference.answers.scope import CancelScope
from core.inference.answers.transcript import Transcript

MOST_AT_ONCE = 1000  # pieces

log = logging.getLogger(__name__)


class Feed:
    """
    Brings a transcript to a listener, from the piece behind `after_seq` on; the listener's hold on the answer.

    `left` is called when the listener gets nothing more, `stop` when it wants the node to stop.
    Whoever adds to the transcript calls `offer`, and `catch_up` if that was in vain; who begins in the middle calls
    `catch_up` once.
    """

    __slots__ = ("_at", "_is_free", "_left", "_listener", "_over", "_scope", "_stop", "_transcript", "_turn")

    def __init__(
        self,
        transcript: Transcript,
        listener: Listener,
        after_seq: int,
        left: Callable[[Feed], None],
        stop: Callable[[], object],
    ) -> None:
        self._transcript = transcript
        self._listener = listener
        self._at = after_seq  # the number of what was handed over last
        self._left = left
        self._stop = stop
        self._turn = asyncio.Lock()
        self._scope = CancelScope()
        self._over = asyncio.Event()
        self._is_free = True  # nothing is being handed over, and it is not over

    def offer(self) -> bool:
        """Hands over what is there if the listener takes it without waiting: the way of nearly every piece."""
        if not self._is_free:
            return False
        try:
            pieces = self._transcript.after(self._at, MOST_AT_ONCE)
        except UnknownAnswer:
            return False
        if not self._listener.offer(self._at + 1, pieces):
            return False
        self._at += len(pieces)
        return self._at == self._transcript.last

    async def catch_up(self) -> None:
        """Hands over all that is there, the outcome too, and waits while the listener is slow."""
        async with self._turn:
            if self._over.is_set():
                return
            self._scope, self._is_free = CancelScope(), False
            async with self._scope:
                await self._hand_over()
            self._is_free = not self._over.is_set()

    def detach(self) -> None:
        """The listener is gone."""
        if not self._over.is_set():
            self._over.set()
            self._is_free = False
            self._scope.cancel()
            self._left(self)

    def cancel(self) -> None:
        """The listener wants no more of it."""
        if not self._over.is_set():
            self._stop()

    async def wait(self) -> None:
        """Until the listener gets nothing more."""
        await self._over.wait()

    async def tell(self, error: GatewayError) -> None:
        """Says why nothing more comes, after `detach`."""
        async with self._turn:
            await self._tell(error)

    async def _hand_over(self) -> None:
        try:
            await self._hand_over_pieces()
            await self._hand_over_outcome()
        except UnknownAnswer as forgotten:
            await self._tell(forgotten)
            self.detach()
        except (ConnectionError, TimeoutError):
            self.detach()
        except Exception:
            log.exception("a listener failed")
            self.detach()

    async def _hand_over_pieces(self) -> None:
        while pieces := self._transcript.after(self._at, MOST_AT_ONCE):
            first = self._at + 1
            self._at += len(pieces)
            await self._listener.pieces(first, pieces)

    async def _hand_over_outcome(self) -> None:
        outcome, seq = self._transcript.outcome, self._transcript.last + 1
        if outcome is None:
            return
        if isinstance(outcome, GatewayError):
            await self._listener.error(seq, outcome)
        else:
            await self._listener.end(seq, outcome)
        self.detach()

    async def _tell(self, error: GatewayError) -> None:
        try:
            await self._listener.error(self._at + 1, error)
        except (ConnectionError, TimeoutError):
            pass  # it was gone already
        except Exception:
            log.exception("a listener could not be told")
