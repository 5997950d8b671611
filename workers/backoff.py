"""How long to wait before a process that ended by itself is started again."""

from __future__ import annotations

FIRST_S, LONGEST_S = 0.25, 15.0
SETTLED_S = 30.0  # a process that lived so long is healthy: its end counts as the first one


class Backoff:
    """Doubling pauses, for one process."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def after(self, lived_s: float) -> float:
        """Seconds to wait, given how long the process lived."""
        pause_s = FIRST_S if lived_s >= SETTLED_S else self._next_s
        self._next_s = min(pause_s * 2, LONGEST_S)
        return pause_s
