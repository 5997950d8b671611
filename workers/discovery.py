"""The search for nodes: regularly, and at once when the Oracle tells of a change."""

from __future__ import annotations

import asyncio

from core.oracle.nodes import OracleNodes
from core.oracle.push import PushChannel
from workers.periodic import Periodic

GATHER_S = 0.2  # changes come in groups
GAP_S = 1.0  # between two searches that changes caused, however many there are


class Discovery:
    """A job of the leader: asks the Oracle for its nodes every `every_s` seconds, and after changes."""

    def __init__(self, nodes: OracleNodes, oracle_url: str, every_s: float) -> None:
        self._changed = asyncio.Event()
        self._push = PushChannel(oracle_url, self._changed.set)
        self._search = Periodic("asking the Oracle for nodes", nodes.refresh, every_s)

    async def run(self) -> None:
        """Goes on until it is cancelled."""
        async with asyncio.TaskGroup() as jobs:
            jobs.create_task(self._search.run())
            jobs.create_task(self._push.run())
            jobs.create_task(self._follow_changes())

    async def _follow_changes(self) -> None:
        while True:
            await self._changed.wait()
            await asyncio.sleep(GATHER_S)
            self._changed.clear()
            await self._search.once()
            await asyncio.sleep(GAP_S)
