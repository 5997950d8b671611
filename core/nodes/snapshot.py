"""The list of nodes that the prober shares with all processes, as JSON in Redis."""

from __future__ import annotations

import logging

import msgspec

from core import redis_keys
from core.nodes.node import Node
from core.store import Store

TTL_S = 300

log = logging.getLogger(__name__)


def encode(nodes: list[Node]) -> str:
    """The list as it is kept."""
    return msgspec.json.encode(nodes).decode()


def decode(raw: str) -> list[Node] | None:
    """The list that was kept; None when another version of the gateway has written it in another form."""
    try:
        return msgspec.json.decode(raw, type=list[Node])
    except msgspec.DecodeError:
        log.warning("the shared list of nodes can't be read")
        return None


async def read(store: Store) -> str | None:
    """The kept list; None when there is none. Raises StoreUnavailable."""
    return await store.get(redis_keys.NODES)


async def write(store: Store, nodes: list[Node]) -> None:
    """Shares the list. Raises StoreUnavailable."""
    await store.set(redis_keys.NODES, encode(nodes), TTL_S)
