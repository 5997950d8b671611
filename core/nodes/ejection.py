"""Passive health: nodes whose requests fail are left out for a while, between two probes and beside them."""

from __future__ import annotations

from dataclasses import dataclass

AFTER, BASE_S, MOST_S = 5, 30.0, 300.0  # Envoy's outlier detection, by default


@dataclass(slots=True)
class Record:
    """What one node's requests have come to since its last good one."""

    failures: int = 0
    ejections: int = 0
    until: float = 0.0  # monotonic seconds


class Ejection:
    """
    Leaves a node out after `after` failures in a row, for `base_s` times the ejections in a row, `most_s` at most.

    After its time a node is tried again, and one more failure puts it out again. A good answer forgets everything.
    """

    def __init__(self, after: int = AFTER, base_s: float = BASE_S, most_s: float = MOST_S) -> None:
        self._after = after
        self._base_s = base_s
        self._most_s = most_s
        self._records: dict[str, Record] = {}

    def failed(self, url: str, now: float) -> bool:
        """A request to the node failed; True when that puts it out."""
        record = self._records.setdefault(url, Record())
        record.failures += 1
        if record.failures < self._after or now < record.until:
            return False
        record.ejections += 1
        record.until = now + min(self._base_s * record.ejections, self._most_s)
        return True

    def succeeded(self, url: str) -> None:
        """A request to the node was served."""
        self._records.pop(url, None)

    def is_out(self, url: str, now: float) -> bool:
        """Whether the node is left out now."""
        record = self._records.get(url)
        return record is not None and now < record.until
