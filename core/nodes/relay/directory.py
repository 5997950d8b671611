"""Which agents are connected to which worker, in Redis: what all workers and machines agree on."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from core import redis_keys
from core.store import Store

LIFE_S = 12.0  # an agent whose worker was killed is forgotten after that time
MOST = 1000  # agents of the fleet
MAX_MODEL = 100  # characters; every worker keeps the name and reads it again every few seconds

KEYS = [redis_keys.AGENTS, redis_keys.AGENTS_UNTIL]
log = logging.getLogger(__name__)

# No control characters, line ends, or marks of writing direction: names are shown in logs and on pages.
ModelName = Annotated[
    str, Meta(max_length=MAX_MODEL, pattern=r"^[^\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+\Z")
]


class Entry(msgspec.Struct, frozen=True):
    """One connected agent."""

    address: str  # its lower-case wallet
    connection: str  # names this very socket: 32 hex digits
    worker: str  # who holds it
    model: ModelName  # its own name of what it serves
    leaving: bool = False  # its worker is about to end: what it has begun it ends, and nothing more is asked


class AgentDirectory:
    """The list of all connected agents. Every method raises StoreUnavailable."""

    def __init__(self, store: Store, *, life_s: float = LIFE_S, most: int = MOST) -> None:
        self._store = store
        self._life_ms = int(life_s * 1000)
        self._most = most

    async def join(self, entry: Entry) -> bool:
        """Lists an agent, in place of an earlier one of its address; False when there are too many."""
        args = (entry.address, _encode(entry), self._life_ms, self._most)
        return bool(await self._store.run("agents_join", KEYS, args))

    async def leave(self, entry: Entry) -> bool:
        """Takes exactly this entry off the list; False when it is not there any more."""
        return bool(await self._store.run("agents_change", KEYS, (entry.address, _encode(entry), "")))

    async def change(self, entry: Entry, changed: Entry) -> bool:
        """Puts an entry in the place of exactly this one; False when that is not there any more."""
        return bool(await self._store.run("agents_change", KEYS, (entry.address, _encode(entry), _encode(changed))))

    async def sync(self, own: Iterable[Entry]) -> tuple[bool, list[Entry]]:
        """Vouches for a worker's own agents; all that are listed, and whether this call changed the list."""
        pairs = [text for entry in own for text in (entry.address, _encode(entry))]
        changed, listed = await self._store.run("agents_sync", KEYS, [self._life_ms, *pairs])
        return bool(changed), [entry for raw in listed if (entry := _decode(raw)) is not None]


def _encode(entry: Entry) -> str:
    return msgspec.json.encode(entry).decode()


def _decode(raw: str) -> Entry | None:
    try:
        return msgspec.json.decode(raw, type=Entry)
    except msgspec.DecodeError:
        log.warning("an entry of the connected agents can't be read")
        return None
