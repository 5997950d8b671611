"""What the leader knows of all nodes, and how every process comes to know it."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from core import redis_keys
from core.bus import Bus
from core.clock import Clock
from core.lease import Lease
from core.nodes import snapshot, traffic
from core.nodes.fleet_traffic import FleetTraffic
from core.nodes.node import Node
from core.nodes.snapshot import Snapshot
from core.store import Store

FIGURES_S = 5.0  # how old shared figures may be that nobody's choice of a node depends on


class Fleet:
    """
    The nodes' health, from the probes and from what all workers tell; shared only by the process that leads.

    Every method but `start` and the lookups raises NotLeading or StoreUnavailable when it can't be done.
    """

    def __init__(self, store: Store, bus: Bus, lease: Lease, clock: Clock, fleet_traffic: FleetTraffic) -> None:
        self.traffic = fleet_traffic
        self._store = store
        self._bus = bus
        self.lease = lease
        self._clock = clock
        self._nodes: dict[str, Node] = {}
        self._listed: Collection[str] = ()  # their URLs, in the sources' order
        self._recalled = 0  # the lead that the nodes were last read for
        self._turn = asyncio.Lock()
        self._changed = False
        self._shared_at = float("-inf")

    async def start(self) -> None:
        """Hears the workers' reports, leading or not: who takes over knows already what is going on."""
        await self._bus.subscribe(redis_keys.to_all(traffic.PURPOSE), self._hear)

    def node(self, url: str) -> Node | None:
        """The node as the last probe left it."""
        return self._nodes.get(url)

    def put(self, node: Node) -> None:
        """What a probe has found; whether a node is online is shared at once, the rest with the next round."""
        before = self._nodes.get(node.url)
        self._nodes[node.url] = node
        self._changed = self._changed or before is None or before.online != node.online

    def keep(self, urls: Collection[str]) -> None:
        """Forgets all other nodes."""
        self._listed = urls
        for url in self._nodes.keys() - urls:
            del self._nodes[url]
            self._changed = True

    async def recall(self) -> None:
        """Takes over what the former leader has shared, once for each lead."""
        async with self._turn:
            fence = self.lease.fence
            if fence == self._recalled:
                return
            shared = await snapshot.read(self._store) or Snapshot()
            self._nodes = {node.url: node for node in shared.nodes}
            self._listed = list(self._nodes)
            self.traffic.restore(shared.traffic)
            self._recalled = fence

    async def share(self) -> None:
        """Shares all that is known."""
        await self.recall()
        async with self._turn:
            self._changed = self.traffic.changed = self.traffic.has_news = False
            nodes = [self._nodes[url] for url in self._listed if url in self._nodes]
            try:
                version = await snapshot.write(self._store, Snapshot(nodes, self.traffic.summary()), self.lease.fence)
            except BaseException:
                self._changed = True
                raise
            self._shared_at = self._clock.monotonic()
            self._bus.post(redis_keys.to_all(snapshot.PURPOSE), version.encode())

    async def share_changes(self) -> None:
        """Shares what has changed since the last time, if it can't wait or the figures have grown old."""
        is_old = self._clock.monotonic() - self._shared_at >= FIGURES_S
        if self._changed or self.traffic.changed or (is_old and self.traffic.has_news):
            await self.share()

    def _hear(self, message: bytes) -> None:
        report = traffic.decode(message)
        if report is not None:
            self.traffic.hear(report)
