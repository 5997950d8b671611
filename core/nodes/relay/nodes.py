"""Connected agents as nodes."""

from __future__ import annotations

from collections.abc import Iterable

from core.catalog import Catalog
from core.nodes.node import Node, NodeKind
from core.nodes.relay.directory import Entry
from core.nodes.relay.transport import SCHEME


def nodes_of(entries: Iterable[Entry], catalog: Catalog, now: float) -> list[Node]:
    """The nodes that connected agents are; `now` is unix seconds. Those that are leaving are none any more."""
    return [_node(entry, catalog, now) for entry in entries if not entry.leaving]


def _node(entry: Entry, catalog: Catalog, now: float) -> Node:
    """
    Being on the list is its health: the worker that holds its socket vouches for it. With a model that the catalogue
    does not have it is offline.
    """
    model = catalog.named(entry.model)
    return Node(
        url=f"{SCHEME}://{entry.address}",
        address=entry.address,
        kind=NodeKind.RELAY,
        models={} if model is None else {model.id: entry.model},
        online=model is not None,
        last_check=now,
        last_seen=now,
        problem="" if model is not None else "it serves no model of the catalogue",
    )
