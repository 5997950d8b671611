"""The nodes as this process knows them: the shared list, and how its own requests have fared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

from core.clock import Clock
from core.errors import StoreUnavailable
from core.nodes import snapshot
from core.nodes.ejection import Ejection
from core.nodes.node import Node
from core.store import Store

POLL_S = 1.0

log = logging.getLogger(__name__)


class NodeRegistry:
    """
    Follows the shared list of nodes.

    While Redis is away, or nobody writes the list any more, the last one stays in force: a request that meets a
    dead node is tried at another one, whereas an empty list would refuse them all.
    """

    def __init__(self, store: Store, clock: Clock, ejection: Ejection, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._clock = clock
        self._ejection = ejection
        self._poll_s = poll_s
        self._raw: str | None = None
        self._listed: list[Node] = []  # the shared list
        self._agents: list[Node] = []  # that are connected to a gateway
        self._nodes: list[Node] = []  # both
        self._by_model: dict[str, list[Node]] = {}
        self._when_lost: list[Callable[[Node], None]] = []
        self._polling: asyncio.Task[None] | None = None
        self._away = False

    # -- which nodes there are

    def nodes(self) -> list[Node]:
        """All of them, offline ones included."""
        return list(self._nodes)

    def node_at(self, address: str) -> Node | None:
        """The node of a wallet, in lower case; an online one before others."""
        owned = [node for node in self._nodes if node.address == address]
        return max(owned, key=lambda node: node.online, default=None)

    def count(self, model_id: str) -> int:
        """How many online nodes serve the model."""
        return len(self._by_model.get(model_id, ()))

    def available(self, model_id: str, excluded: Collection[str] = ()) -> list[Node]:
        """
        The nodes that a request may go to, but for those at the excluded URLs.

        Ejected ones are among them only when there is no other: the last node of a model is never out.
        """
        nodes = [node for node in self._by_model.get(model_id, ()) if node.url not in excluded]
        now = self._clock.monotonic()
        return [node for node in nodes if not self._ejection.is_out(node.url, now)] or nodes

    # -- how they fare

    def succeeded(self, node: Node) -> None:
        """It served a request."""
        self._ejection.succeeded(node.url)

    def failed(self, node: Node) -> None:
        """It failed a request."""
        if self._ejection.failed(node.url, self._clock.monotonic()):
            log.warning("node %s is left out for a while", node.url)

    def when_lost(self, callback: Callable[[Node], None]) -> None:
        """Calls back with each node that goes offline or leaves the list."""
        self._when_lost.append(callback)

    # -- how they are known

    async def refresh(self) -> None:
        """Reads the shared list once."""
        try:
            raw = await snapshot.read(self._store)
        except StoreUnavailable:
            if not self._away:
                log.warning("Redis is away: the last known nodes stay in use")
            self._away = True
            return
        self._away = False
        if raw is None or raw == self._raw or (nodes := snapshot.decode(raw)) is None:
            return
        self._raw = raw
        self._listed = nodes
        self._replace()

    def set_agents(self, agents: list[Node]) -> None:
        """Takes in which agents are connected now: their sockets tell it sooner than any probe."""
        self._agents = agents
        self._replace()

    async def start(self) -> None:
        """Reads the list, and goes on doing so every `poll_s` seconds."""
        await self.refresh()
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Reads it no more."""
        if self._polling is not None:
            self._polling.cancel()
            await asyncio.gather(self._polling, return_exceptions=True)

    async def _poll(self) -> None:
        while True:
            await asyncio.sleep(self._poll_s)
            await self.refresh()

    def _replace(self) -> None:
        nodes = [*self._listed, *self._agents]
        online = {node.url for node in nodes if node.online}
        lost = [node for node in self._nodes if node.online and node.url not in online]
        self._nodes, self._by_model = nodes, {}
        for node in nodes:
            for model_id in node.models if node.online else ():
                self._by_model.setdefault(model_id, []).append(node)
        for node in lost:
            for callback in self._when_lost:
                callback(node)
