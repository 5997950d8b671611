"""Connected agents as nodes."""

from __future__ import annotations

from core.catalog import Catalog
from core.nodes.node import Node, NodeKind
from core.nodes.relay.directory import Entry
from core.nodes.relay.transport import SCHEME


def node_of(entry: Entry, catalog: Catalog, now: float) -> Node:
    """
    The node that an agent is; `now` is unix seconds.

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
        problem="" if model is not None else "it serves no model of the catalogue",
    )
