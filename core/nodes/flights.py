"""The requests of this process that are on their way to nodes, counted in memory until the next report."""

from __future__ import annotations

from copy import copy

from core.clock import Clock
from core.nodes.traffic import Tally

MOST_TOKENS = 100_000  # of one answer: the figure is the node's own word


class Flight:
    """One request to one node. It ends once, by `answered`, `failed` or `left`; what is said later does not count."""

    __slots__ = ("_began", "_clock", "_moved", "_tally")

    def __init__(self, tally: Tally, clock: Clock) -> None:
        self._tally: Tally | None = tally
        self._clock = clock
        self._began = clock.monotonic()
        self._moved = False
        tally.in_flight += 1

    def moved(self, pieces: int) -> None:
        """Some text came."""
        if (tally := self._tally) is None:
            return
        tally.moves += pieces
        if not self._moved:
            self._moved = True
            tally.streams += 1
            tally.first_token_s += self._clock.monotonic() - self._began

    def answered(self, tokens: int) -> None:
        """The whole answer is there."""
        if (tally := self._end()) is not None:
            tally.answers += 1
            tally.row = 0
            tally.tokens += min(tokens, MOST_TOKENS)
            tally.duration_s += self._clock.monotonic() - self._began

    def failed(self) -> None:
        """By the node's fault."""
        if (tally := self._end()) is not None:
            tally.failures += 1
            tally.row += 1

    def left(self) -> None:
        """By nobody's fault: the caller left, the request could not be served, or this process ends."""
        self._end()

    def _end(self) -> Tally | None:
        tally, self._tally = self._tally, None
        if tally is not None:
            tally.in_flight -= 1
        return tally


class Flights:
    """All of this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tallies: dict[str, Tally] = {}

    def begin(self, url: str) -> Flight:
        """A request leaves for the node."""
        tally = self._tallies.get(url)
        if tally is None:
            tally = self._tallies[url] = Tally(url)
        return Flight(tally, self._clock)

    def in_flight(self, url: str) -> int:
        """How many requests of this process the node serves now."""
        tally = self._tallies.get(url)
        return 0 if tally is None else tally.in_flight

    def tallies(self) -> list[Tally]:
        """What there is to tell; the next call tells what comes from here on, and what is still under way."""
        told = [tally for tally in self._tallies.values() if tally.has_news]
        reported = [copy(tally) for tally in told]
        for tally in told:
            self._clear(tally)
        return reported

    def _clear(self, tally: Tally) -> None:
        if not tally.in_flight:
            del self._tallies[tally.url]
            return
        # Its flights go on counting in this very object.
        tally.answers = tally.failures = tally.row = tally.tokens = tally.streams = tally.moves = 0
        tally.duration_s = tally.first_token_s = 0.0
