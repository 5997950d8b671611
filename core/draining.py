"""The end of a process: new work is refused, running work gets a set time, then it is interrupted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

INTERRUPTED_S = 2  # what an interrupted stream has for its last words
CLOSING_S = 2  # what a handler has for its clean-up after its connection was cut

Interrupt = Callable[[], None]


def grace_s(timeout_s: int) -> int:
    """How long a worker may take from the stop signal to its end, in seconds."""
    return timeout_s + INTERRUPTED_S + CLOSING_S


class Drain:
    """
    Whether this process is about to end, and what has to be told when its time is up.

    What has work that may outlast the time registers an interrupt: a plain function, called once in the event loop,
    that makes its work end by itself soon (a stream sends its error event).
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._when_begun: list[Callable[[], None]] = []
        self._interrupts: list[Interrupt] = []
        self._draining = self._time_is_up = False

    @property
    def draining(self) -> bool:
        """Whether new work is to be refused."""
        return self._draining

    def when_begun(self, callback: Callable[[], None]) -> None:
        """Calls back once, in the event loop, when the drain begins."""
        self._when_begun.append(callback)

    def begin(self) -> None:
        """Starts the countdown; a second call changes nothing. Needs a running event loop."""
        if not self._draining:
            self._draining = True
            asyncio.get_running_loop().call_later(self._timeout_s, self._interrupt_all)
            for callback in self._when_begun:
                callback()

    def add_interrupt(self, interrupt: Interrupt) -> None:
        """Registers work; when the time is up already, it is interrupted in the loop's next turn."""
        self._interrupts.append(interrupt)
        if self._time_is_up:
            asyncio.get_running_loop().call_soon(interrupt)

    def _interrupt_all(self) -> None:
        self._time_is_up = True
        for interrupt in self._interrupts:
            interrupt()
