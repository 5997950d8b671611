"""Two workers with their answers over one Redis, a node that speaks by a script, and clients that listen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import cast

from core.access.admission import Limits
from core.billing.ledger import Ledger
from core.bus import Bus, open_bus
from core.clock import SystemClock
from core.errors import GatewayError
from core.inference.answers.answer import AnswerEnd
from core.inference.answers.answers import Answers
from core.inference.answers.book import AnswerBook
from core.inference.answers.relay import AnswerRelay
from core.inference.service import InferenceService
from core.nodes.node import Node
from core.nodes.router import NodeRouter
from core.nodes.work import NodeAnswer, Offer
from core.store import Store
from core.worker_id import new_worker_id
from tests.access.gates import gate

NODE = Node("http://node")
LIMITS = Limits(free_requests=100_000, window_s=3600, free_max_tokens=2048, pro_max_tokens=4096)
WINDOW_S = 30.0


class Script:
    """What the node says to every request: batches of pieces; it waits at `gate` before each one."""

    def __init__(self, batches: Sequence[list[str]] = (), *, pause_s: float = 0.0) -> None:
        self.batches = batches
        self.pause_s = pause_s
        self.gate = asyncio.Event()
        self.gate.set()
        self.said = 0  # batches
        self.closed = 0  # answers
        self.failure: GatewayError | None = None

    def stream(self, _: object) -> Speech:
        return Speech(self)


class Speech:
    """One answer of the node."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._left = list(script.batches)
        self._closed = False
        self.answer = NodeAnswer(NODE, "", "stop", None, None, 0)

    async def flow(self, offer: Offer) -> list[str]:
        while True:
            await self._script.gate.wait()
            await asyncio.sleep(self._script.pause_s)
            if self._script.failure is not None:
                raise self._script.failure
            if not self._left or self._closed:
                return []
            self._script.said += 1
            if not offer(batch := self._left.pop(0)):
                return batch

    async def aclose(self) -> None:
        self._script.closed += not self._closed
        self._closed = True


class Client:
    """A listener that keeps what it gets; slow by `pause_s` a call, gone once `gone` is set."""

    def __init__(self, pause_s: float = 0.0) -> None:
        self.texts: list[str] = []
        self.last = 0  # the number of the last piece
        self.outcome: AnswerEnd | GatewayError | None = None
        self.gone = False
        self.calls = 0
        self.pause_s = pause_s
        self.gate = asyncio.Event()
        self.gate.set()

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def offer(self, first_seq: int, pieces: Sequence[str]) -> bool:
        if self.gone or self.pause_s or not self.gate.is_set():
            return False
        self._take(first_seq, pieces)
        return True

    async def pieces(self, first_seq: int, pieces: Sequence[str]) -> None:
        if self.gone:
            raise ConnectionError
        self._take(first_seq, pieces)
        await self.gate.wait()
        await asyncio.sleep(self.pause_s)

    def _take(self, first_seq: int, pieces: Sequence[str]) -> None:
        assert self.outcome is None
        assert self.last in (0, first_seq - 1)
        self.texts += pieces
        self.last = first_seq + len(pieces) - 1
        self.calls += 1

    async def end(self, seq: int, end: AnswerEnd) -> None:
        self._finish(seq, end)

    async def error(self, seq: int, error: GatewayError) -> None:
        self._finish(seq, error)

    def _finish(self, seq: int, outcome: AnswerEnd | GatewayError) -> None:
        if self.gone:
            raise ConnectionError
        assert self.outcome is None
        assert self.last in (0, seq - 1)
        self.outcome = outcome

    @property
    def ended(self) -> AnswerEnd:
        assert isinstance(self.outcome, AnswerEnd), self.outcome
        return self.outcome


@dataclass
class Worker:
    """One worker's part."""

    answers: Answers
    book: AnswerBook
    relay: AnswerRelay
    bus: Bus
    worker_id: str


@asynccontextmanager
async def open_worker(
    redis_url: str,
    store: Store,
    script: Script,
    window_s: float = WINDOW_S,
    most: int = 64 * 1024 * 1024,
    beat_s: float = 2.0,
) -> AsyncIterator[Worker]:
    """A worker whose node speaks by the script."""
    router = cast("NodeRouter", script)
    service = InferenceService(gate(store, limits=LIMITS), router, Ledger(store), SystemClock(), patience_s=15)
    async with open_bus(redis_url) as bus:
        worker_id, book = new_worker_id(), AnswerBook(service, window_s, most)
        relay = AnswerRelay(bus, worker_id, book, beat_s)
        await until(lambda: bus.is_heard)
        await relay.start()
        try:
            yield Worker(Answers(book, relay), book, relay, bus, worker_id)
        finally:
            await relay.aclose()
            await book.aclose()


async def until(true: Callable[[], bool], within_s: float = 10) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.002)
