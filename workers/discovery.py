"""The search for nodes: regularly, and at once when the Oracle tells of a change."""

from __future__ import annotations

import asyncio

from core.oracle.nodes import OracleNodes
from core.oracle.push import PushChannel
from workers.periodic import Job, Periodic

GATHER_S = 0.2  # changes come in groups
GAP_S = 1.0  # between two searches that changes caused, however many there are


class Discovery:
    """The leader's search: asks the Oracle for its nodes every `every_s` seconds, and after changes."""

    def __init__(self, nodes: OracleNodes, oracle_url: str, every_s: float) -> None:
        self._changed = asyncio.Event()
        self._push = PushChannel(oracle_url, self._changed.set)
        self._search = Periodic("asking the Oracle for nodes", nodes.refresh, every_s)

    def jobs(self) -> list[Job]:
        """What it does all the time; each job ends when it is cancelled, so none hangs on another's end."""
        return [self._search, self._push, _Following(self._changed, self._search)]


class _Following:
    """Searches when something changed."""

    def __init__(self, changed: asyncio.Event, search: Periodic) -> None:
        self._changed = changed
        self._search = search

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER_S)
            self._changed.clear()
            await self._search.once()
            await asyncio.sleep(GAP_S)
