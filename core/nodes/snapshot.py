"""What the leader shares with all processes about the nodes, as JSON in Redis."""

from __future__ import annotations

import logging

import msgspec

from core import redis_keys
from core.lease import NotLeading
from core.nodes.node import Node
from core.nodes.traffic import Traffic
from core.store import Store

TTL_S = 300
PURPOSE = "nodes"  # of the bus' topic: there is a new snapshot

log = logging.getLogger(__name__)


class Snapshot(msgspec.Struct, frozen=True):
    """All nodes as the probes see them, and by URL how they fare with our requests."""

    nodes: list[Node] = []
    traffic: dict[str, Traffic] = {}


async def version(store: Store) -> str | None:
    """Another one for each snapshot, and small; None when there is no snapshot. Raises StoreUnavailable."""
    return await store.get(redis_keys.NODES_VERSION)


async def read(store: Store) -> Snapshot | None:
    """
    The last one; None when there is none, or another version of the gateway has written it in another form.

    Raises StoreUnavailable.
    """
    raw = await store.get(redis_keys.NODES)
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Snapshot)
    except msgspec.DecodeError:
        log.warning("the shared snapshot of the nodes can't be read")
        return None


async def write(store: Store, snapshot: Snapshot, fence: int) -> str:
    """Shares it, as the leader with this number; its version. Raises NotLeading, StoreUnavailable."""
    keys = [redis_keys.FENCE, redis_keys.NODES, redis_keys.NODES_VERSION]
    written: str = await store.run("nodes_write", keys, [fence, msgspec.json.encode(snapshot).decode(), TTL_S])
    if not written:
        raise NotLeading
    return written
