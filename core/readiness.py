"""Whether requests can be served now: Redis takes writes and at least one node is online."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from core import lease, redis_keys
from core.chain.chain import Chain, ChainState
from core.clock import Clock
from core.draining import Drain
from core.durability import Durability, durability
from core.errors import StoreUnavailable
from core.nodes.registry import NodeRegistry
from core.store import Store

TOUCHED_S = 60


class Readiness:
    """Looks at what serving depends on."""

    def __init__(
        self, store: Store, nodes: NodeRegistry, drain: Drain, clock: Clock, chain: Chain | None = None
    ) -> None:
        self._chain = chain
        self._store = store
        self._nodes = nodes
        self._drain = drain
        self._clock = clock

    async def report(self) -> dict[str, Any]:
        """
        {"status": "ready" | "unready", "redis", "nodes", "background", "leader", "chain", "durability", "settlement",
        "draining"}.

        `redis` is "ok", "unavailable", or such as "refuses writes: OOM", with Redis' own word for why: each request
        takes a script that writes. `background` is the age of the background workers' last heartbeat in seconds,
        `leader` the name of the one that leads. They are null when there is none: then the health of the nodes grows
        old, but requests are still served. `chain` is "off" without a payment contract; when it is anything but "ok",
        those whose tier is not known are served as Free. `durability` is one of core.durability, null while Redis is
        away. `settlement` is what the settler says of itself, null when none is there: then what is used waits, up to
        the most that may be unsettled.
        """
        redis, told = "ok", _Told()
        try:
            told = await self._ask()
            await self._store.run("touch", [redis_keys.TOUCHED], [TOUCHED_S])
        except StoreUnavailable as problem:
            redis = f"refuses writes: {problem.refusal}" if problem.refusal else "unavailable"
        online = sum(node.online for node in self._nodes.nodes())
        ready = redis == "ok" and online > 0 and not self._drain.draining
        return {
            "status": "ready" if ready else "unready",
            "redis": redis,
            "nodes": online,
            "background": told.background,
            "leader": told.leader,
            "chain": ChainState.OFF if self._chain is None else self._chain.state,
            "durability": told.durability,
            "settlement": told.settlement,
            "draining": self._drain.draining,
        }

    async def _ask(self) -> _Told:
        """Raises StoreUnavailable."""
        heartbeat = await self._store.get(redis_keys.BACKGROUND)
        settler = None if self._chain is None else await self._store.get(redis_keys.SETTLER)
        return _Told(
            leader=await lease.leader(self._store),
            background=None if heartbeat is None else max(0, round(self._clock.now() - float(heartbeat))),
            durability=await durability(self._store),
            settlement=None if settler is None else msgspec.json.decode(settler),
        )


@dataclass(frozen=True)
class _Told:
    """What Redis knows."""

    leader: str | None = None
    background: int | None = None
    durability: Durability | None = None
    settlement: dict[str, Any] | None = None
