"""A job that is done again and again, whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import SystemRandom
from typing import Protocol

from core.errors import GatewayError
from core.expected import Expected
from core.lease import NotLeading

JITTER = 0.1  # share of the interval, so that many gateways do not knock at the same moment

log = logging.getLogger(__name__)
chance = SystemRandom()


class Job(Protocol):
    """What a worker does all the time."""

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        ...


class Periodic:
    """
    Runs a job at once, then about every `every_s` seconds.

    A job that raises keeps its schedule. Only its first failure and its recovery are logged: a Redis that is away
    for an hour is one event, not hundreds.
    """

    def __init__(self, name: str, job: Callable[[], Awaitable[None]], every_s: float) -> None:
        self._name = name
        self._job = job
        self._every_s = every_s
        self._failing = False

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            await self.once()
            await asyncio.sleep(self._every_s * chance.uniform(1 - JITTER, 1 + JITTER))

    async def once(self) -> None:
        """One turn; never raises."""
        try:
            await self._job()
        except Exception as problem:  # noqa: BLE001 - whatever it is, the next turn may do
            self._note_failure(problem)
        else:
            self.works()

    def works(self) -> None:
        """The job does what it is to do; told when it did not before."""
        if self._failing:
            log.info("%s works again", self._name)
        self._failing = False

    def _note_failure(self, problem: Exception) -> None:
        if not self._failing:
            expected = isinstance(problem, (Expected, GatewayError, NotLeading))  # its traceback would say nothing new
            log.warning("%s fails and is tried again: %r", self._name, problem, exc_info=None if expected else problem)
        self._failing = True


class Lasting(Periodic):
    """The same for a job that goes on for long once it works: it is given a function to call when it does."""

    def __init__(self, name: str, job: Callable[[Callable[[], None]], Awaitable[None]], every_s: float) -> None:
        super().__init__(name, lambda: job(self.works), every_s)
