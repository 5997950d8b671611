"""The nodes as this process knows them: the shared list, and how its own requests have fared."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress

from core import redis_keys
from core.bus import Bus
from core.clock import Clock
from core.ending import end
from core.errors import StoreUnavailable
from core.nodes import snapshot
from core.nodes.ejection import Ejection
from core.nodes.flights import Flight, Flights
from core.nodes.node import Node
from core.nodes.traffic import Traffic
from core.store import Store

POLL_S = 1.0
NO_TRAFFIC = Traffic()

log = logging.getLogger(__name__)


class NodeRegistry:
    """
    Follows what the leader shares about the nodes, and adds what this process has met itself since.

    While Redis is away, or nobody shares anything any more, the last snapshot stays in force: a request that meets a
    dead node is tried at another one, whereas an empty list would refuse them all.
    """

    def __init__(self, store: Store, clock: Clock, ejection: Ejection, *, poll_s: float = POLL_S) -> None:
        self.flights = Flights(clock)
        self._store = store
        self._clock = clock
        self._ejection = ejection
        self._poll_s = poll_s
        self._version: str | None = None
        self._traffic: Mapping[str, Traffic] = {}
        self._out: dict[str, float] = {}  # put out by the leader: until when, in unix seconds
        self._listed: list[Node] = []  # the shared list
        self._agents: list[Node] = []  # that are connected to a gateway
        self._nodes: list[Node] = []  # both
        self._by_model: dict[str, list[Node]] = {}
        self._when_lost: list[Callable[[Node], None]] = []
        self._news = asyncio.Event()
        self._polling: asyncio.Task[None] | None = None

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
        return len(self.serving(model_id))

    def serving(self, model_id: str) -> Sequence[Node]:
        """The online nodes that serve the model."""
        return self._by_model.get(model_id, ())

    def available(self, model_id: str, excluded: Collection[str] = ()) -> Sequence[Node]:
        """
        The nodes that a request may go to, but for those at the excluded URLs.

        Ejected ones are among them only when there is no other: the last node of a model is never out.
        """
        nodes = self.serving(model_id)
        if excluded:
            nodes = [node for node in nodes if node.url not in excluded]
        out = self._out_now()  # usually nobody: a request must not look at a thousand nodes
        return [node for node in nodes if node.url not in out] or nodes if out else nodes

    # -- how they fare

    def begin(self, node: Node) -> Flight:
        """A request leaves for it; the flight is to be told how that ends."""
        return self.flights.begin(node.url)

    def succeeded(self, node: Node) -> None:
        """It served a request: nobody leaves it out any more."""
        self._ejection.succeeded(node.url)
        self._out.pop(node.url, None)

    def failed(self, node: Node) -> None:
        """It failed a request."""
        if self._ejection.failed(node.url, self._clock.monotonic()):
            log.warning("node %s is left out for a while", node.url)

    def traffic(self, node: Node) -> Traffic:
        """How it fares with the requests of the whole fleet, some seconds ago."""
        return self._traffic.get(node.url, NO_TRAFFIC)

    def _out_now(self) -> set[str]:
        now = self._clock.now()
        return {url for url, until in self._out.items() if now < until} | self._ejection.out(self._clock.monotonic())

    def when_lost(self, callback: Callable[[Node], None]) -> None:
        """Calls back with each node that goes offline or leaves the list."""
        self._when_lost.append(callback)

    # -- how they are known

    async def refresh(self) -> None:
        """Looks whether there is a new snapshot, and reads it."""
        try:
            version = await snapshot.version(self._store)
            shared = await snapshot.read(self._store) if version not in (None, self._version) else None
        except StoreUnavailable:
            return
        if shared is not None:
            self._version, self._listed = version, shared.nodes
            self._take_over(shared.traffic)
            self._replace()

    def set_agents(self, agents: list[Node]) -> None:
        """Takes in which agents are connected now: their sockets tell it sooner than any probe."""
        self._agents = agents
        self._replace()

    async def start(self, bus: Bus) -> None:
        """Reads the snapshot, and goes on doing so at each word of a new one, or after `poll_s` seconds without."""
        await bus.subscribe(redis_keys.to_all(snapshot.PURPOSE), lambda _: self._news.set())
        bus.when_back(self._news.set)
        await self.refresh()
        self._polling = asyncio.create_task(self._poll())

    async def stop(self) -> None:
        """Reads it no more."""
        if self._polling is not None:
            await end([self._polling])

    async def _poll(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._news.wait()
            self._news.clear()
            await self.refresh()

    def _take_over(self, traffic: Mapping[str, Traffic]) -> None:
        """A node that the leader takes back has served somebody: this process' own marks on it are out of date."""
        now = self._clock.now()
        out = {url: one.standing.until for url, one in traffic.items() if one.standing.is_out(now)}
        for url, until in self._out.items():
            if url not in out and now < until:
                self._ejection.succeeded(url)
        self._traffic, self._out = traffic, out

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
