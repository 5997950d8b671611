"""The answers of one worker: those that run, and those that are kept for whoever lost his link."""

from __future__ import annotations

import asyncio

from core.auth.caller import Caller
from core.errors import AnswerExists
from core.inference.answers.answer import Listener
from core.inference.answers.feed import Feed
from core.inference.answers.run import Run, Streams
from core.inference.answers.transcript import Transcript
from core.inference.requests import InferenceRequest

MIB = 1024 * 1024
MOST_AN_ANSWER, MOST_A_WORKER = MIB, 64 * MIB  # bytes of memory
ENTRY = 2048  # bytes that an answer takes without its text

Key = tuple[str, str]  # the subject and the name that he gave


class AnswerBook:
    """Named answers are found by (subject, name); all are bounded in memory."""

    def __init__(self, streams: Streams, window_s: float, most: int = MOST_A_WORKER) -> None:
        self._streams = streams
        self._window_s = window_s
        self._most = most
        self._used = 0  # bytes
        self._runs: dict[Run, tuple[Key | None, Transcript]] = {}  # the oldest first
        self._named: dict[Key, Run] = {}

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def used(self) -> int:
        """Bytes that the answers take."""
        return self._used

    def start(self, caller: Caller, request: InferenceRequest, name: str | None, listener: Listener) -> Feed:
        """Asks for an answer. Raises AnswerExists for a name that the caller uses here already."""
        key = None if name is None else (caller.subject, name)
        if key in self._named:
            raise AnswerExists(key[1])
        transcript = Transcript(name or "", 0 if name is None else MOST_AN_ANSWER, self._grow)
        run = Run(transcript, 0 if name is None else self._window_s, self._forget)
        self._grow(ENTRY)
        self._runs[run] = key, transcript
        if key is not None:
            self._named[key] = run
        return run.begin(self._streams, caller, request, listener)

    def find(self, subject: str, name: str) -> Run | None:
        """The caller's answer of this name."""
        return self._named.get((subject, name))

    async def aclose(self) -> None:
        """Ends all answers, and waits until they are counted."""
        await asyncio.gather(*(run.aclose() for run in self._runs))
        for run in tuple(self._runs):
            self._forget(run)

    def _grow(self, size: int) -> bool:
        """Takes note of bytes; whether there is room for them, once the oldest that nobody hears have gone."""
        self._used += size
        if size > 0 and self._used > self._most:
            self._make_room()
        return self._used <= self._most

    def _make_room(self) -> None:
        for run in [run for run in self._runs if run.is_idle]:
            self._forget(run)
            if self._used <= self._most:
                return

    def _forget(self, run: Run) -> None:
        run.retire()
        key, transcript = self._runs.pop(run)
        if key is not None:
            del self._named[key]
        transcript.clear()
        self._grow(-ENTRY)
