"""What all workers together have met at the nodes: the sum of their reports, and the ejections that follow from it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from core.clock import Clock
from core.nodes.averages import follow
from core.nodes.ejection import Ejection
from core.nodes.traffic import Tally, Traffic, TrafficReport

SILENT_S = 3.0  # a worker that told of requests in flight and then nothing has died
ANSWERING_S = 10.0  # a node that sent text so lately is at work
FORGET_S = 3600.0  # a node that nobody has asked anything for so long
MOST_FAILURES = 100  # of one report that are counted one by one

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Known:
    """What is known of a node, besides its standing."""

    heard: float  # monotonic seconds, as all here
    moved: float = float("-inf")  # when some text came
    first_token_ms: float = 0.0
    tokens_per_s: float = 0.0
    last_answer: float = 0.0  # unix seconds


class FleetTraffic:
    """Hears the workers' reports. `ejection` goes by unix seconds here: what it decides is shared by all machines."""

    def __init__(self, clock: Clock, ejection: Ejection) -> None:
        self.changed = False  # a node was put out or taken back; set back by whoever has shared it
        self.has_news = False  # anything else was heard; likewise
        self._clock = clock
        self._ejection = ejection
        self._known: dict[str, _Known] = {}
        self._workers: dict[str, tuple[float, dict[str, int]]] = {}  # when it was heard, its requests in flight

    def hear(self, report: TrafficReport) -> None:
        """Adds what a worker tells."""
        now = self._clock.monotonic()
        self.has_news = True
        self._workers[report.worker_id] = now, {tally.url: tally.in_flight for tally in report.tallies}
        for tally in report.tallies:
            self._count(tally, now)
            self._judge(tally)

    def is_answering(self, url: str) -> bool:
        """Whether the node has just sent text to any of the workers, and not failed since."""
        known = self._known.get(url)
        return known is not None and self._clock.monotonic() - known.moved < ANSWERING_S

    def summary(self) -> dict[str, Traffic]:
        """Each node that was asked something lately, by its URL."""
        self._forget()
        in_flight: dict[str, int] = {}
        for _, flying in self._workers.values():
            for url, count in flying.items():
                in_flight[url] = in_flight.get(url, 0) + count
        return {url: self._traffic(url, known, in_flight.get(url, 0)) for url, known in self._known.items()}

    def restore(self, shared: Mapping[str, Traffic]) -> None:
        """Takes over what the former leader knew of nodes that this process has heard nothing of."""
        now = self._clock.monotonic()
        for url, traffic in shared.items():
            if url not in self._known:
                self._ejection.restore(url, traffic.standing)
                averages = traffic.first_token_ms, traffic.tokens_per_s, traffic.last_answer
                self._known[url] = _Known(now, float("-inf"), *averages)

    def _count(self, tally: Tally, now: float) -> None:
        known = self._known.setdefault(tally.url, _Known(now))
        known.heard = now
        if tally.moves:
            known.moved = now
        if tally.row:
            known.moved = float("-inf")
        if tally.streams:
            known.first_token_ms = follow(known.first_token_ms, 1000 * tally.first_token_s / tally.streams)
        if tally.answers:
            known.last_answer = self._clock.now()
        if tally.duration_s > 0:
            known.tokens_per_s = follow(known.tokens_per_s, tally.tokens / tally.duration_s)

    def _judge(self, tally: Tally) -> None:
        now = self._clock.now()
        if tally.answers:
            self.changed = self.changed or self._ejection.is_out(tally.url, now)
            self._ejection.succeeded(tally.url)
        for _ in range(min(tally.row, MOST_FAILURES)):
            if self._ejection.failed(tally.url, now):
                self.changed = True
                log.warning("node %s fails its requests and is left out for a while", tally.url)

    def _traffic(self, url: str, known: _Known, in_flight: int) -> Traffic:
        return Traffic(
            in_flight=in_flight,
            first_token_ms=round(known.first_token_ms, 1),
            tokens_per_s=round(known.tokens_per_s, 1),
            last_answer=known.last_answer,
            standing=self._ejection.standing(url),
        )

    def _forget(self) -> None:
        now = self._clock.monotonic()
        self._workers = {name: told for name, told in self._workers.items() if now - told[0] < SILENT_S}
        for url in [url for url, known in self._known.items() if now - known.heard > FORGET_S]:
            del self._known[url]
            self._ejection.succeeded(url)
