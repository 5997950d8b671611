"""Signatures that are good once: whoever has listened in can't send one again."""

from __future__ import annotations

from hashlib import sha256

from core import redis_keys
from core.store import Store

DRIFT_S = 300  # what the clock of an agent may differ from ours, either way
MARGIN_S = 60  # what the clocks of our own machines may differ, and what lies between the look at one and the mark
LIFE_S = 2 * DRIFT_S + MARGIN_S  # a signature that is dated ahead stays good for so long


class UsedSignatures:
    """Remembers accepted signatures for the whole fleet. They are canonical: parse_signature lets no twin through."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def use(self, signature: bytes) -> bool:
        """True for the first one who comes with it. Raises StoreUnavailable: nothing is accepted unseen."""
        key = redis_keys.used_signature(sha256(signature).hexdigest())
        return bool(await self._store.run("use_once", [key], [LIFE_S]))
