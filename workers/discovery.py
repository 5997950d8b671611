"""The search for nodes: regularly, and at once when the Oracle tells of a change."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from core.oracle.nodes import OracleNodes
from core.oracle.push import PushChannel
from workers.periodic import Periodic

GATHER_S = 0.3  # changes come in groups
GAP_S = 2.0  # between two searches that changes caused, however many there are


class Discovery:
    """
    A job of the lead: asks the Oracle for its nodes every `every_s` seconds and after changes.

    `probe` is awaited when there are other nodes than before, so that a new one need not wait for its first probe.
    """

    def __init__(
        self, nodes: OracleNodes, oracle_url: str, every_s: float, probe: Callable[[], Awaitable[None]]
    ) -> None:
        self._nodes = nodes
        self._probe = probe
        self._changed = asyncio.Event()
        self._push = PushChannel(oracle_url, self._changed.set)
        self._search = Periodic("asking the Oracle for nodes", self._discover, every_s)

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

    async def _discover(self) -> None:
        if await self._nodes.refresh():
            await self._probe()
