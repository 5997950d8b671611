"""When a process ends, or stands still, of itself."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from tests.chaos.record import Record


@dataclass
class Fate:
    """A step function: at the n-th step of this name the process sends itself a signal that nobody can catch."""

    record: Record
    point: str = ""  # "" lets it live
    passages: int = 1
    signal: int = signal.SIGKILL

    def __call__(self, name: str) -> None:
        if name != self.point:
            return
        self.passages -= 1
        if self.passages == 0:
            self.record.die(name if self.signal == signal.SIGKILL else f"stopped {name}")
            os.kill(os.getpid(), self.signal)
