"""Which node is next."""

from __future__ import annotations

from collections.abc import Sequence

from core.nodes.node import Node


class RoundRobin:
    """
    The node that was chosen least recently for the model.

    While the nodes stay the same this is plain round robin; when one leaves or comes back the others keep their turns.
    """

    def __init__(self) -> None:
        self._turn = 0
        self._chosen: dict[tuple[str, str], int] = {}

    def select(self, model_id: str, nodes: Sequence[Node]) -> Node | None:
        """One of the nodes; None when there are none."""
        if not nodes:
            return None
        chosen = self._chosen
        node = min(nodes, key=lambda one: chosen.get((model_id, one.url), 0))
        self._turn += 1
        chosen[model_id, node.url] = self._turn
        return node
