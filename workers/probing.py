"""The regular look at the nodes."""

from __future__ import annotations

from core.nodes.probe import NodeProber


async def probe(prober: NodeProber) -> None:
    """Asks every node how it is and shares the answers with all processes."""
    await prober.probe_all()
