"""What one connection may ask for."""

from __future__ import annotations

from core.errors import RateLimited

EVENTS_PER_S, EVENTS_AT_ONCE = 20, 40  # over it, an event is refused and the connection stays
PACKETS_PER_S, PACKETS_AT_ONCE = 50, 100  # of any kind, before sign-in too; over it, the connection is cut
MOST_ANSWERS = 16  # at once
WRITE_TIMEOUT_S = 30  # a client that takes nothing for so long is cut off


class Allowance:
    """A token bucket: `per_s` a second on average, `at_once` after a pause. Times are a monotonic clock's seconds."""

    def __init__(self, per_s: float, at_once: int, now: float) -> None:
        self._per_s = per_s
        self._at_once = at_once
        self._left = float(at_once)
        self._seen = now

    def take(self, now: float) -> bool:
        """Whether one more is allowed; one that is not costs nothing."""
        self._left = min(self._at_once, self._left + (now - self._seen) * self._per_s)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


def too_many_events() -> RateLimited:
    """The refusal of an event."""
    return RateLimited(f"Too many events: at most {EVENTS_PER_S} a second")


def too_many_answers() -> RateLimited:
    """The refusal of one more answer."""
    return RateLimited(f"Too many answers at once: at most {MOST_ANSWERS}")
