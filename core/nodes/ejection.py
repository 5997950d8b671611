"""Passive health: nodes whose requests fail are left out for a while, between two probes and beside them."""

from __future__ import annotations

import msgspec

AFTER, BASE_S, MOST_S = 5, 30.0, 300.0  # Envoy's outlier detection, by default


class Standing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one node's requests have come to since its last good one."""

    failures: int = 0
    ejections: int = 0
    until: float = 0.0  # seconds, of the clock that the caller goes by

    def is_out(self, now: float) -> bool:
        """Whether the node is left out now."""
        return now < self.until


GOOD = Standing()


class Ejection:
    """
    Leaves a node out after `after` failures in a row, for `base_s` times the ejections in a row, `most_s` at most.

    After its time a node is tried again, and one more failure puts it out again. A good answer forgets everything.
    """

    def __init__(self, after: int = AFTER, base_s: float = BASE_S, most_s: float = MOST_S) -> None:
        self._after = after
        self._base_s = base_s
        self._most_s = most_s
        self._standings: dict[str, Standing] = {}

    def failed(self, url: str, now: float) -> bool:
        """A request to the node failed; True when that puts it out."""
        before = self.standing(url)
        failures, ejections, until = before.failures + 1, before.ejections, before.until
        ejects = failures >= self._after and not before.is_out(now)
        if ejects:
            ejections += 1
            until = now + min(self._base_s * ejections, self._most_s)
        self._standings[url] = Standing(failures, ejections, until)
        return ejects

    def succeeded(self, url: str) -> None:
        """A request to the node was served."""
        self._standings.pop(url, None)

    def is_out(self, url: str, now: float) -> bool:
        """Whether the node is left out now."""
        return self.standing(url).is_out(now)

    def out(self, now: float) -> set[str]:
        """All nodes that are left out now."""
        return {url for url, standing in self._standings.items() if standing.is_out(now)}

    def standing(self, url: str) -> Standing:
        """What is known of the node; a stranger is good."""
        return self._standings.get(url, GOOD)

    def restore(self, url: str, standing: Standing) -> None:
        """Takes over what another process knew of the node."""
        self._standings[url] = standing
