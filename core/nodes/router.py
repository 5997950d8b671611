"""The failover: up to three attempts, each at another node while there is one, until the first piece of text."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from core.errors import NodesFailed, NoNodes
from core.nodes.attempt import Attempt, Timeouts
from core.nodes.flights import Flight
from core.nodes.node import Node, NodeKind
from core.nodes.registry import NodeRegistry
from core.nodes.selection import RoundRobin
from core.nodes.transport.failures import NodeFailure
from core.nodes.transport.transports import NodeTransport
from core.nodes.work import NodeAnswer, Offer, Work, refuse

ATTEMPTS = 3

log = logging.getLogger(__name__)


class NodeRouter:
    """Finds a node for a piece of work, and another one when that fails."""

    def __init__(self, registry: NodeRegistry, transport: NodeTransport, timeouts: Timeouts) -> None:
        self._registry = registry
        self._transport = transport
        self._timeouts = timeouts
        self._first_choice = RoundRobin()
        self._retries = RoundRobin()  # turns of their own: else a retry would put the failed node first again
        registry.when_lost(self._give_up)

    async def complete(self, work: Work) -> NodeAnswer:
        """The whole answer. Raises NoNodes, NodesFailed, NodeRefused."""
        attempt, flight = await self.serve(work, Attempt.whole)
        self.succeeded(attempt, flight)
        return attempt.result()

    def stream(self, work: Work) -> NodeStream:
        """The answer in pieces; nothing is sent before the first one is asked for."""
        return NodeStream(self, work)

    async def serve(self, work: Work, way: Callable[[Attempt], Awaitable[None]]) -> tuple[Attempt, Flight]:
        """
        The first attempt that succeeds, and its flight, which has not ended.

        | what happens             | mark on the node | then                                                     |
        |--------------------------|------------------|----------------------------------------------------------|
        | it answers               | good, once the   | done                                                     |
        |                          | answer is whole  |                                                          |
        | NodeFailure              | failed           | another node; the same one only if it is the last one    |
        |                          |                  | and answered badly rather than not at all                |
        | NodeRefused              | none             | the caller hears of it: another node would refuse, too   |
        | the caller leaves, or    | none             | the same                                                 |
        | the process is ending    |                  |                                                          |
        """
        time = asyncio.get_running_loop().time
        until = time() + self._timeouts.total_s
        tried: set[str] = set()
        hopeless: set[str] = set()
        for _ in range(ATTEMPTS):
            node = self._next(work.model, tried, hopeless)
            if node is None or time() >= until:
                break
            tried.add(node.url)
            attempt, flight = Attempt(node, work, self._transport, self._timeouts, until), self._registry.begin(node)
            try:
                await way(attempt)
            except NodeFailure as failure:
                self.failed(node, flight, failure)
                if not failure.may_repeat:
                    hopeless.add(node.url)
            except BaseException:
                flight.left()
                raise
            else:
                return attempt, flight
        raise NodesFailed if tried else NoNodes

    def succeeded(self, attempt: Attempt, flight: Flight) -> None:
        """Marks a node that has answered to the end."""
        answer = attempt.result()
        flight.answered(answer.pieces if answer.tokens is None else answer.tokens)
        self._registry.succeeded(attempt.node)

    def failed(self, node: Node, flight: Flight, failure: NodeFailure) -> None:
        """Marks a node, and says why."""
        log.warning("node %s failed: %s (%s)", node.url, failure, type(failure).__name__)
        flight.failed()
        self._registry.failed(node)

    def _next(self, model_id: str, tried: set[str], hopeless: set[str]) -> Node | None:
        nodes = self._registry.available(model_id, tried) or self._registry.available(model_id, hopeless)
        turns = self._retries if tried else self._first_choice
        return turns.select(model_id, nodes)

    def _give_up(self, node: Node) -> None:
        # An agent may be too busy with our very request to answer a probe: it is left in peace.
        if node.kind is not NodeKind.AGENT:
            self._transport.give_up(node.url)


class NodeStream:
    """
    An answer's text in lists of pieces, none of them empty; each piece is a token event of the node.

    `flow` offers them as they come in, and gives what is not taken: nothing at the end. It raises what
    `NodeRouter.complete` does before the first piece. After it a failure is NodesFailed, and nothing is tried again:
    the text could not be told from a repetition. Cancelled or closed, the node's work ends at once.
    """

    __slots__ = ("_attempt", "_flight", "_offer", "_over", "_router", "_work")

    def __init__(self, router: NodeRouter, work: Work) -> None:
        self._router = router
        self._work = work
        self._attempt: Attempt | None = None
        self._flight: Flight | None = None
        self._offer: Offer = refuse
        self._over = False

    @property
    def answer(self) -> NodeAnswer:
        """What has come, without its text; complete once the stream is exhausted. RuntimeError before it began."""
        if self._attempt is None:
            raise RuntimeError("the stream has not begun")
        return self._attempt.result()

    async def flow(self, offer: Offer) -> list[str]:
        if self._over:
            return []
        if self._attempt is None or self._flight is None:
            self._attempt, self._flight = await self._router.serve(self._work, Attempt.open)
            first = self._attempt.first
            if first:
                self._flight.moved(len(first))
                if not offer(first):
                    return first
        self._offer = offer
        try:
            pieces = await self._go_on(self._attempt, self._flight)
        finally:
            self._offer = refuse
        if not pieces:
            self._end(self._attempt, self._flight)
        return pieces

    async def aclose(self) -> None:
        """Ends the node's work at once, if it still works; harmless at any time."""
        self._over = True
        if self._attempt is not None and self._flight is not None:
            self._attempt.close()
            self._flight.left()

    def _pass_on(self, pieces: list[str]) -> bool:
        if self._flight is not None:
            self._flight.moved(len(pieces))
        return self._offer(pieces)

    def _end(self, attempt: Attempt, flight: Flight) -> None:
        if not self._over:
            self._over = True
            self._router.succeeded(attempt, flight)

    async def _go_on(self, attempt: Attempt, flight: Flight) -> list[str]:
        try:
            return await attempt.flow(self._pass_on)
        except NodeFailure as failure:
            if self._over:  # it was closed meanwhile
                return []
            self._over = True
            self._router.failed(attempt.node, flight, failure)
            raise NodesFailed("The answer was cut off by its node.") from failure
        except BaseException:
            flight.left()
            raise
