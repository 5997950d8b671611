"""Agents of this worker that work for other workers: their requests come in, the answers go back, over the bus."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

from core import redis_keys
from core.bus import Bus
from core.errors import StoreUnavailable
from core.nodes.relay import frames, letters
from core.nodes.relay.agents import Agents
from core.nodes.relay.letters import Ask, Failed, Letter, Part, Reason
from core.nodes.transport.failures import NodeFailure

PURPOSE = "relay"
LONGEST_S = 3600.0  # who asked has died without a word


class Loan:
    """One request of another worker; what the agent answers goes there as it comes."""

    def __init__(self, bus: Bus, ask: Ask, over: Callable[[str], None]) -> None:
        self._bus = bus
        self._id = ask.id
        self._topic = redis_keys.to_worker(ask.reply_to, PURPOSE)
        self._over = over
        self._number = 0

    def feed(self, kind: str, frame: bytes) -> None:
        self._post(Part(self._id, self._number, kind, frame))
        self._number += 1
        if kind in frames.ENDS:
            self._over(self._id)

    def fail(self, error: Exception) -> None:
        self.refuse("lost")
        self._over(self._id)

    def refuse(self, reason: Reason) -> None:
        """Tells that there will be no answer, or no more of it."""
        self._post(Failed(self._id, reason))

    def _post(self, letter: Letter) -> None:
        with suppress(StoreUnavailable):  # the other side finds the gap, or its own deadline
            self._bus.post(self._topic, letters.encode(letter))


class Loans:
    """Serves the other workers' requests."""

    def __init__(self, agents: Agents, bus: Bus) -> None:
        self._agents = agents
        self._bus = bus
        self._open: dict[str, tuple[str, asyncio.TimerHandle]] = {}  # request → connection, end

    def ask(self, ask: Ask) -> None:
        """Passes a request on to its agent."""
        loan, connection = Loan(self._bus, ask, self.forget), self._agents.own(ask.connection)
        if connection is None:
            loan.refuse("gone")
            return
        try:
            connection.ask(ask.id, ask.body, loan)
        except NodeFailure:
            loan.refuse("busy")
        else:
            end = asyncio.get_running_loop().call_later(LONGEST_S, self.forget, ask.id)
            self._open[ask.id] = ask.connection, end

    def forget(self, request_id: str) -> None:
        """Drops what still comes for a request."""
        if (found := self._open.pop(request_id, None)) is None:
            return
        connection_id, end = found
        end.cancel()
        if (connection := self._agents.own(connection_id)) is not None:
            connection.forget(request_id)
