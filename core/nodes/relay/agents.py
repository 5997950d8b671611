"""The connected agents: those of this worker, whose sockets it holds, and those that it knows of at others."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any

import msgspec

from core import redis_keys
from core.bus import Bus
from core.ending import end
from core.errors import StoreUnavailable
from core.nodes.relay.connection import AgentConnection
from core.nodes.relay.directory import AgentDirectory, Entry

SYNC_S = 2.5  # how often a worker vouches for its agents
PAUSE_S = 0.1  # between two looks at the list, when it changes all the time
REPLACED = 4010, "Replaced by new connection"
CHANGED = redis_keys.to_all("agents")

log = logging.getLogger(__name__)


class Agents:
    """
    Follows the list of all connected agents, and keeps this worker's own on it.

    Whoever changes the list tells all workers to read it again; they also read it every few seconds, since a word
    may be lost. While Redis is away the last list stays in force.
    """

    def __init__(self, worker_id: str, directory: AgentDirectory, bus: Bus, *, sync_s: float = SYNC_S) -> None:
        self._worker_id = worker_id
        self._directory = directory
        self._bus = bus
        self._sync_s = sync_s
        self._own: dict[str, AgentConnection] = {}  # by connection
        self._known: dict[str, Entry] = {}  # by address
        self._undropped: list[Entry] = []  # since Redis was away
        self._when_changed: list[Callable[[], None]] = []
        self._news = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    # -- which agents there are

    def entries(self) -> list[Entry]:
        """All of them, each address once."""
        return list(self._known.values())

    def entry(self, address: str) -> Entry | None:
        """The agent of a lower-case wallet."""
        return self._known.get(address)

    def own(self, connection: str) -> AgentConnection | None:
        """The socket of an entry, if it is this worker's."""
        return self._own.get(connection)

    def when_changed(self, callback: Callable[[], None]) -> None:
        """Calls back when agents came or went, and whenever the list was read."""
        self._when_changed.append(callback)

    # -- how they come and go

    async def join(self, address: str, model: str, close: Callable[[int, str], object]) -> AgentConnection | None:
        """
        Takes in an agent that has proved its address; an earlier connection of it is closed, wherever it is.

        None when the fleet has too many. Raises StoreUnavailable.
        """
        entry = Entry(address, secrets.token_hex(16), self._worker_id, model)
        if not await self._directory.join(entry):
            return None
        connection = self._own[entry.connection] = AgentConnection(entry, close)
        log.info("agent %s is connected, with %s", address, model)
        self._replace({**self._known, address: entry})
        self._tell()
        return connection

    async def leave(self, connection: AgentConnection) -> None:
        """
        The socket is gone; another connection of the same agent is left alone.

        Goes on when the one who waits is cancelled: the web server does that once the connection is lost for good.
        """
        entry = connection.entry
        self._own.pop(entry.connection, None)
        connection.lost()
        log.info("agent %s is gone", entry.address)
        await asyncio.shield(self._start(self.drop(entry)))

    def retire(self) -> None:
        """This worker is about to end: its agents are asked nothing more, and leave when they have answered."""
        self._start(self._retire())

    async def _retire(self) -> None:
        for connection in list(self._own.values()):
            entry = connection.entry
            connection.entry = leaving = msgspec.structs.replace(entry, leaving=True)
            with suppress(StoreUnavailable):
                await self._directory.change(entry, leaving)
            connection.retire()
        self._tell()

    async def drop(self, entry: Entry) -> None:
        """Takes an entry off the list whose socket is gone; if its worker lives after all, it is put back soon."""
        if self._known.get(entry.address) == entry:
            self._replace({address: known for address, known in self._known.items() if known != entry})
        try:
            if await self._directory.leave(entry):
                self._tell()
        except StoreUnavailable:
            self._undropped.append(entry)

    # -- how they are known

    async def start(self) -> None:
        """Reads the list, and follows it from here on."""
        self._bus.when_back(self._news.set)
        await self._bus.subscribe(CHANGED, lambda _: self._news.set())
        await self.refresh()
        self._start(self._follow())

    async def stop(self) -> None:
        """Follows it no more."""
        await end(tuple(self._tasks))

    async def refresh(self) -> None:
        """Vouches for this worker's own agents and reads the list once."""
        undropped, self._undropped = self._undropped, []
        for entry in undropped:
            await self.drop(entry)
        before = self._known
        own = [connection.entry for connection in self._own.values()]
        try:
            changed, listed = await self._directory.sync(own)
        except StoreUnavailable:
            return
        if changed:
            self._tell()
        for entry in own:
            if entry.connection not in self._own:  # it left meanwhile, and may have been put back by this very call
                await self.drop(entry)
        if self._known is before:
            self._replace({entry.address: entry for entry in listed})
        else:
            self._news.set()  # somebody came or went here meanwhile: what was read may not know of it

    async def _follow(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._sync_s):
                    await self._news.wait()
            self._news.clear()
            await self.refresh()
            await asyncio.sleep(PAUSE_S)

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _tell(self) -> None:
        with suppress(StoreUnavailable):
            self._bus.post(CHANGED, b"")

    def _replace(self, known: dict[str, Entry]) -> None:
        for connection in list(self._own.values()):
            current = known.get(connection.entry.address)
            if current is not None and current.connection != connection.entry.connection:
                del self._own[connection.entry.connection]
                connection.lost()
                connection.close(*REPLACED)
        self._known = known
        for callback in self._when_changed:
            callback()
