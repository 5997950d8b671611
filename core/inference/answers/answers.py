"""The answers that clients may leave and come back to, on whichever worker they come back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from core.auth.caller import Caller
from core.bus import Bus
from core.errors import GatewayError
from core.inference.answers.answer import Answer, Listener
from core.inference.answers.book import AnswerBook
from core.inference.answers.relay import AnswerRelay
from core.inference.answers.run import Streams
from core.inference.requests import InferenceRequest


class Answers:
    """The answers of this worker, and the way to those of the others."""

    def __init__(self, book: AnswerBook, relay: AnswerRelay) -> None:
        self._book = book
        self._relay = relay

    def start(self, caller: Caller, request: InferenceRequest, name: str | None, listener: Listener) -> Answer:
        """
        Asks for an answer; one with a name may be resumed.

        Raises AnswerExists for a name that the caller uses on this worker already. All else that may go wrong comes
        to the listener.
        """
        return self._book.start(caller, request, name, listener)

    async def resume(self, caller: Caller, name: str, after_seq: int, listener: Listener) -> Answer:
        """
        Goes on behind the piece with this number, 0 for all; whoever listened before gets AnswerMoved.

        Raises UnknownAnswer when no worker keeps that place of an answer of this caller, or StoreUnavailable.
        """
        run = self._book.find(caller.subject, name)
        if run is not None:
            return run.attach(listener, after_seq)
        return await self._relay.resume(caller.subject, name, after_seq, listener)

    async def cancel(self, caller: Caller, name: str) -> bool:
        """Stops an answer wherever it is made; whether there was one that still ran. Raises StoreUnavailable."""
        run = self._book.find(caller.subject, name)
        if run is not None:
            return run.cancel()
        return await self._relay.cancel(caller.subject, name)

    def interrupt(self, error: GatewayError) -> None:
        """This process ends: who hears another worker's answer through it is told. Own answers end with their nodes."""
        self._relay.interrupt(error)


@asynccontextmanager
async def open_answers(streams: Streams, bus: Bus, worker_id: str, window_s: float) -> AsyncIterator[Answers]:
    """Opens the book and joins the other workers; at the end all answers are ended and counted."""
    book = AnswerBook(streams, window_s)
    relay = AnswerRelay(bus, worker_id, book)
    await relay.start()
    try:
        yield Answers(book, relay)
    finally:
        await relay.aclose()
        await book.aclose()
