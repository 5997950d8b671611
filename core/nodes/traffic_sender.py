"""Tells the leader how the nodes fare with this worker's requests."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from core import redis_keys
from core.bus import Bus
from core.ending import end
from core.errors import StoreUnavailable
from core.nodes.flights import Flights
from core.nodes.traffic import PURPOSE, TrafficReport, encode

EVERY_S = 0.5

log = logging.getLogger(__name__)


class TrafficSender:
    """
    Sends a report every `every_s` seconds while there is something to tell.

    A report that is lost since Redis is away is not sent again: the next one tells what is in flight, and until then
    this process has its own marks on the nodes.
    """

    def __init__(self, flights: Flights, bus: Bus, worker_id: str, *, every_s: float = EVERY_S) -> None:
        self._flights = flights
        self._bus = bus
        self._worker_id = worker_id
        self._every_s = every_s
        self._was_busy = False  # the last report told of requests in flight
        self._sending: asyncio.Task[None] | None = None

    def send(self) -> None:
        """Sends what there is; nothing when nothing has changed."""
        tallies = self._flights.tallies()
        if tallies or self._was_busy:
            with suppress(StoreUnavailable):
                self._bus.post(redis_keys.to_all(PURPOSE), encode(TrafficReport(self._worker_id, tallies)))
        self._was_busy = any(tally.in_flight for tally in tallies)

    def start(self) -> None:
        """Begins; needs a running event loop."""
        self._sending = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Sends the last report, and no more."""
        if self._sending is not None:
            await end([self._sending])
            self.send()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            self.send()
