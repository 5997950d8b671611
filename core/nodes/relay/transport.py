"""Requests to agents: straight to a socket of this worker, or over the bus to the worker that holds it."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from core import redis_keys
from core.bus import Bus
from core.errors import StoreUnavailable
from core.nodes.relay import letters
from core.nodes.relay.agents import Agents
from core.nodes.relay.directory import Entry
from core.nodes.relay.exchange import RelayExchange
from core.nodes.relay.letters import Ask, Failed, Forget, Part, Reason
from core.nodes.relay.loans import PURPOSE, Loans
from core.nodes.transport.failures import NodeBroken, NodeFailed, NodeFailure, NodeUnreachable
from core.nodes.transport.origin import Request

SCHEME = "relay"


@dataclass(slots=True)
class _Running:
    """A request that waits for more."""

    exchange: RelayExchange
    entry: Entry
    parts: int = 0  # that came over the bus


class RelayTransport:
    """Asks agents, as the connection pool asks HTTP nodes. `worker_id` is this worker's own."""

    def __init__(self, worker_id: str, agents: Agents, bus: Bus) -> None:
        self._worker_id = worker_id
        self._agents = agents
        self._bus = bus
        self._loans = Loans(agents, bus)
        self._running: dict[str, _Running] = {}  # by request
        self._interruption: Exception | None = None
        agents.when_changed(self._drop_lost)

    async def start(self) -> None:
        """Hears what other workers ask and answer."""
        await self._bus.subscribe(redis_keys.to_worker(self._worker_id, PURPOSE), self._receive)

    async def post(self, url: str, request: Request, until: float) -> RelayExchange:
        """
        The answer of the agent with this URL, once it has begun; `until` is loop time.

        Raises NodeFailure, or what it was interrupted with.
        """
        if self._interruption is not None:
            raise self._interruption
        entry = self._agents.entry(url.removeprefix(f"{SCHEME}://"))
        if entry is None or entry.leaving:
            raise NodeUnreachable("it is not connected")
        request_id = secrets.token_hex(16)
        exchange = RelayExchange(request.limit, partial(self._forget, request_id))
        self._running[request_id] = _Running(exchange, entry)
        try:
            if (connection := self._agents.own(entry.connection)) is not None:
                connection.ask(request_id, request.body, exchange)
            else:
                await self._ask_its_worker(request_id, entry, request.body)
            await exchange.begun(until)
        except BaseException:
            exchange.abort()
            raise
        return exchange

    def give_up(self, url: str) -> None:
        """Nothing is to be done: who waits for an agent hears at once when its connection is lost."""

    def interrupt(self, error: Exception) -> None:
        """Makes all running exchanges fail with this error at once, and every later one too: the process is ending."""
        self._interruption = error
        for running in list(self._running.values()):
            running.exchange.interrupt(error)

    # -- within

    async def _ask_its_worker(self, request_id: str, entry: Entry, body: bytes) -> None:
        ask = letters.encode(Ask(request_id, entry.connection, self._worker_id, body))
        try:
            heard = await self._bus.publish(redis_keys.to_worker(entry.worker, PURPOSE), ask)
        except StoreUnavailable:
            raise NodeUnreachable("the way to its worker is interrupted") from None
        if not heard:
            await self._agents.drop(entry)
            raise NodeUnreachable("its worker is gone")

    def _forget(self, request_id: str) -> None:
        entry = self._running.pop(request_id).entry
        if (connection := self._agents.own(entry.connection)) is not None:
            connection.forget(request_id)
        elif entry.worker != self._worker_id:
            with suppress(StoreUnavailable):
                self._bus.post(redis_keys.to_worker(entry.worker, PURPOSE), letters.encode(Forget(request_id)))

    def _receive(self, message: bytes) -> None:
        letter = letters.decode(message)
        if isinstance(letter, Ask):
            self._loans.ask(letter)
        elif isinstance(letter, Forget):
            self._loans.forget(letter.id)
        elif letter is not None and (running := self._running.get(letter.id)) is not None:
            _continue(running, letter)

    def _drop_lost(self) -> None:
        for running in list(self._running.values()):
            entry = self._agents.entry(running.entry.address)
            if entry is None or entry.connection != running.entry.connection:
                running.exchange.fail(_failure("lost"))


def _continue(running: _Running, letter: Part | Failed) -> None:
    if isinstance(letter, Failed):
        running.exchange.fail(_failure(letter.reason))
    elif letter.number != running.parts:
        running.exchange.fail(NodeBroken("a part of its answer was lost"))
    else:
        running.parts += 1
        running.exchange.feed(letter.kind, letter.frame)


def _failure(reason: Reason) -> NodeFailure:
    if reason == "gone":
        return NodeUnreachable("its connection is gone")
    return NodeFailed("it has too much to do") if reason == "busy" else NodeBroken("its connection is lost")
