"""SIGTERM, SIGINT, SIGHUP: each means "finish and end", the first one counts, none is lost and none comes too early."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# A terminal that is closed ends what runs in it, unless that was started by nohup.
_HANGUP = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, *_HANGUP)


@contextmanager
def held() -> Iterator[None]:
    """
    Keeps stop signals pending for this thread, and for each process that is started meanwhile.

    Such a child inherits the mask: it can't be ended half-way through its start, and gets a signal of that time
    as soon as it calls `on_first_stop`.
    """
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def on_first_stop(stop: Callable[[], object]) -> None:
    """
    Calls `stop` on the first stop signal and ignores all others, until the process ends.

    Plain handlers, not the event loop's: the loop takes its own back when it closes, and a signal that came after
    that would kill a process that is just ending well.
    """
    stopping = False

    def handle(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        if not stopping:
            stopping = True
            stop()

    for number in STOP_SIGNALS:
        signal.signal(number, handle)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
