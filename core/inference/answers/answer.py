"""What an answer that may outlive its link looks like to those who ask for it and those who hear it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec

from core.errors import GatewayError
from core.inference.completion import FinishReason, Usage


class AnswerEnd(msgspec.Struct, frozen=True):
    """How an answer ended. `id` is the request's id, "" when it was cancelled before it was admitted."""

    id: str
    model: str
    finish_reason: FinishReason
    usage: Usage
    cancelled: bool = False


class Listener(Protocol):
    """
    Where an answer's events go, numbered from 1 on: each piece has a number, and the end or error has the next one.

    Calls never overlap. Each waits while the client is slow and raises ConnectionError when it is gone. One that
    waits may be cancelled; then nothing but an error follows.
    """

    def offer(self, first_seq: int, pieces: Sequence[str]) -> bool:
        """Takes pieces without waiting, if it can; else it takes none of them, and they come by `pieces`."""
        ...

    async def pieces(self, first_seq: int, pieces: Sequence[str]) -> None:
        """Pieces of text, the first of which has the number `first_seq`."""
        ...

    async def end(self, seq: int, end: AnswerEnd) -> None:
        """The answer is complete, or was cancelled."""
        ...

    async def error(self, seq: int, error: GatewayError) -> None:
        """The answer failed, or goes on elsewhere (AnswerMoved)."""
        ...


class Answer(Protocol):
    """One listener's hold on an answer. All calls are harmless after its end."""

    def detach(self) -> None:
        """The link is gone: a named answer goes on for the resume window, one without a name is cancelled."""
        ...

    def cancel(self) -> None:
        """Stops the node's work now; what left is counted, and the listener gets end() with `cancelled`."""
        ...

    async def wait(self) -> None:
        """Until this listener gets nothing more: it had the end or an error, or was detached."""
        ...
