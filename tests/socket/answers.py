"""Answers that a test speaks itself, piece by piece."""

from __future__ import annotations

import asyncio
from typing import Any

from core.auth.caller import Caller
from core.errors import AnswerExists, GatewayError, UnknownAnswer
from core.inference.answers import AnswerEnd, Listener
from core.inference.completion import Usage
from core.inference.requests import InferenceRequest

USAGE = Usage(4, 2, 6)
END = AnswerEnd("req_1_0123456789abcdef", "a/model", "stop", USAGE)
CANCELLED = AnswerEnd(END.id, END.model, "stop", USAGE, cancelled=True)


class SpokenAnswer:
    """One answer, as its listener and its test see it. `done` says what became of it."""

    def __init__(self, request: InferenceRequest | None, listener: Listener, seq: int = 0) -> None:
        self.request = request
        self.done: str | None = None
        self.listener: Any = listener
        self._seq = seq
        self._over = asyncio.Event()

    async def say(self, *pieces: str) -> None:
        """Hands over pieces; returns when more may come."""
        await self.listener.pieces(self._seq + 1, pieces)
        self._seq += len(pieces)

    async def end(self, end: AnswerEnd = END) -> None:
        self._finish("ended")
        await self.listener.end(self._seq + 1, end)

    async def fail(self, error: GatewayError) -> None:
        self._finish("failed")
        await self.listener.error(self._seq + 1, error)

    def detach(self) -> None:
        self._finish("detached")

    def cancel(self) -> None:
        self._finish("cancelled")

    async def wait(self) -> None:
        await self._over.wait()

    def _finish(self, how: str) -> None:
        self.done = self.done or how
        self._over.set()


class SpokenAnswers:
    """`all` are those that were ever begun, in order."""

    def __init__(self) -> None:
        self.all: list[SpokenAnswer] = []
        self._named: dict[tuple[str, str], SpokenAnswer] = {}

    def start(self, caller: Caller, request: InferenceRequest, name: str | None, listener: Listener) -> SpokenAnswer:
        if name is not None and (caller.subject, name) in self._named:
            raise AnswerExists(name)
        answer = SpokenAnswer(request, listener)
        self.all.append(answer)
        if name is not None:
            self._named[caller.subject, name] = answer
        return answer

    async def resume(self, caller: Caller, name: str, after_seq: int, listener: Listener) -> SpokenAnswer:
        if (caller.subject, name) not in self._named:
            raise UnknownAnswer(name)
        answer = self._named[caller.subject, name] = SpokenAnswer(None, listener, after_seq)
        self.all.append(answer)
        return answer

    async def cancel(self, caller: Caller, name: str) -> bool:
        if (answer := self._named.get((caller.subject, name))) is None or answer.done is not None:
            return False
        await answer.end(CANCELLED)
        return True

    async def next(self, number: int = 0) -> SpokenAnswer:
        """The answer of this number, once it is begun."""
        async with asyncio.timeout(10):
            while len(self.all) <= number:
                await asyncio.sleep(0.005)
        return self.all[number]
