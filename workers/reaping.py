"""The clearing up behind workers that died."""

from __future__ import annotations

from core.billing.reaper import Reaper

EVERY_S = 10


async def reap(reaper: Reaper) -> None:
    """Gives back what requests had taken whose worker will never tell how they ended."""
    await reaper.reap()
