"""One answer being made, and kept for a while: the task that reads it, and who listens to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from core.auth.caller import Caller
from core.errors import AnswerMoved, GatewayError
from core.inference.answers.answer import AnswerEnd, Listener
from core.inference.answers.feed import Feed
from core.inference.answers.scope import CancelScope
from core.inference.answers.transcript import Transcript
from core.inference.completion import Usage
from core.inference.requests import InferenceRequest
from core.inference.streaming import CompletionStream

log = logging.getLogger(__name__)


class Streams(Protocol):
    """Where answers come from: `InferenceService`."""

    def stream(self, caller: Caller, request: InferenceRequest) -> AbstractAsyncContextManager[CompletionStream]:
        """The answer in pieces."""
        ...


class Run:
    """
    An answer that reads itself into its transcript, at the pace of its listener when it has one.

    Nobody listening for `window_s`, it is stopped and `expired` is called; 0 seconds when nobody can come back.
    """

    __slots__ = (
        "_closing",
        "_expired",
        "_feed",
        "_is_cancelled",
        "_is_handing_over",
        "_loop",
        "_reading",
        "_stream",
        "_tasks",
        "_transcript",
        "_window",
        "_window_s",
    )

    def __init__(self, transcript: Transcript, window_s: float, expired: Callable[[Run], None]) -> None:
        self._transcript = transcript
        self._window_s = window_s
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._reading = CancelScope()
        self._is_cancelled = False
        self._closing: asyncio.Task[None] | None = None
        self._feed: Feed | None = None
        self._stream: CompletionStream | None = None
        self._is_handing_over = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._window: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """Whether the answer has its outcome."""
        return self._transcript.outcome is not None

    @property
    def is_idle(self) -> bool:
        """Whether it is over and nobody listens."""
        return self.is_over and self._feed is None

    def begin(self, streams: Streams, caller: Caller, request: InferenceRequest, listener: Listener) -> Feed:
        """Asks for the answer, for this listener."""
        self._feed = Feed(self._transcript, listener, 0, self._left, self.cancel)
        self._spawn(self._run(streams, caller, request))
        return self._feed

    def attach(self, listener: Listener, after_seq: int) -> Feed:
        """A new listener instead of the one there is. Raises UnknownAnswer when that place is not kept."""
        self._transcript.after(after_seq, 0)
        former, self._feed = self._feed, Feed(self._transcript, listener, after_seq, self._left, self.cancel)
        self._stop_window()
        if former is not None:
            former.detach()
            self._spawn(former.tell(AnswerMoved()))
        self._spawn(self._feed.catch_up())
        return self._feed

    def cancel(self) -> bool:
        """Stops the node's work, what left is counted; whether there was still something to stop."""
        if self._is_cancelled or self.is_over:
            return False
        self._is_cancelled = True
        if self._is_handing_over and self._stream is not None:
            # What the listener takes just now is not torn from it.
            self._closing = self._spawn(self._stream.aclose())
        else:
            self._reading.cancel()
        return True

    def retire(self) -> None:
        """Nobody can come back to it any more."""
        self._stop_window()

    async def aclose(self) -> None:
        """Ends all of it, and waits until what left is counted."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, streams: Streams, caller: Caller, request: InferenceRequest) -> None:
        try:
            outcome: AnswerEnd | GatewayError = await self._make(streams.stream(caller, request), request.model)
        except GatewayError as error:
            outcome = error
        except Exception:
            log.exception("an answer failed")
            outcome = GatewayError("Internal server error")
        self._transcript.outcome, self._stream = outcome, None
        if self._feed is not None:
            await self._feed.catch_up()
        else:
            self._start_window()

    async def _make(self, opening: AbstractAsyncContextManager[CompletionStream], model: str) -> AnswerEnd:
        async with self._reading, opening as stream:
            self._stream = stream
            await self._read(stream)
        if self._closing is not None:
            await self._closing
        if self._is_cancelled or self._stream is None:
            return _cancelled(self._stream, model)
        completion = self._stream.completion
        return AnswerEnd(completion.grant.request_id, model, completion.finish_reason, completion.told_usage)

    async def _read(self, stream: CompletionStream) -> None:
        while await stream.flow(self._take) and not self._is_cancelled:
            if self._feed is not None:
                self._is_handing_over = True
                await self._feed.catch_up()
                self._is_handing_over = False

    def _take(self, pieces: list[str]) -> bool:
        """Keeps pieces; False when the listener can't take them at once, and when no more are wanted."""
        self._transcript.add(pieces)
        return not self._is_cancelled and (self._feed is None or self._feed.offer())

    def _left(self, feed: Feed) -> None:
        if feed is self._feed:
            self._feed = None
            self._start_window()

    def _start_window(self) -> None:
        """From now on the answer waits for a listener; a window that runs already begins anew."""
        self._stop_window()
        self._window = self._loop.call_later(self._window_s, self._expire)

    def _stop_window(self) -> None:
        if self._window is not None:
            self._window.cancel()
            self._window = None

    def _expire(self) -> None:
        if self.is_over:
            self._expired(self)
        else:
            self._window_s = 0  # it goes as soon as it is stopped and counted
            self.cancel()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _cancelled(stream: CompletionStream | None, model: str) -> AnswerEnd:
    """The end of an answer that was stopped: nothing is counted for one without text."""
    if stream is None or stream.usage.completion_tokens == 0:
        return AnswerEnd(stream.grant.request_id if stream else "", model, "stop", Usage(0, 0, 0), cancelled=True)
    return AnswerEnd(stream.grant.request_id, model, "stop", stream.usage, cancelled=True)
