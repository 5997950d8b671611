"""Which node is next."""

from __future__ import annotations

from collections import deque
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
        self._queues: dict[str, tuple[Sequence[Node], deque[Node]]] = {}

    def select(self, model_id: str, nodes: Sequence[Node]) -> Node | None:
        """One of the nodes; None when there are none. Cheap while it is given the same sequence again."""
        if not nodes:
            return None
        known, queue = self._queues.get(model_id, ((), deque()))
        if known is not nodes:
            queue = deque(sorted(nodes, key=lambda node: self._chosen.get((model_id, node.url), 0)))
            self._queues[model_id] = nodes, queue
        node = queue[0]
        queue.rotate(-1)
        self._turn += 1
        self._chosen[model_id, node.url] = self._turn
        return node
