"""The regular look at the nodes, by the leader."""

from __future__ import annotations

from core.nodes.fleet import Fleet
from core.nodes.probe import NodeProber

NEW_EVERY_S = 0.5
SHARE_EVERY_S = 0.2


async def probe(prober: NodeProber) -> None:
    """Asks every node how it is and shares the answers with all processes."""
    await prober.probe_all()


async def probe_new(prober: NodeProber) -> None:
    """Asks those that have just come."""
    await prober.probe_new()


async def share(fleet: Fleet) -> None:
    """Tells all processes what has changed."""
    await fleet.share_changes()
