"""What the settler says of itself, for /ready and for the log."""

from __future__ import annotations

import logging

import msgspec

from core import redis_keys
from core.settlement.accounts import Standing
from core.store import Store

LIFE_S = 60
OK = "ok"
QUIET = (OK, "recovering")

log = logging.getLogger(__name__)


class Status(msgspec.Struct, frozen=True):
    """`mismatch` is the number of users of whom the chain says something else than the ledger."""

    state: str
    address: str
    oldest_s: int
    outstanding: int  # tokens
    mismatch: int


class StatusBoard:
    """Writes it each turn, and logs each change."""

    def __init__(self, store: Store, address: str) -> None:
        self._store = store
        self._address = address
        self._state = OK

    async def tell(self, state: str, standing: Standing) -> None:
        """Raises StoreUnavailable."""
        status = Status(state, self._address, int(standing.oldest_s), standing.outstanding, len(standing.frozen))
        await self._store.set(redis_keys.SETTLER, msgspec.json.encode(status).decode(), LIFE_S)
        if state != self._state:
            level = logging.INFO if state in QUIET else logging.ERROR
            log.log(level, "settlement: %s (%s tokens outstanding)", state, standing.outstanding)
            self._state = state
