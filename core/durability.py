"""What of the ledger survives the death of this Redis, as its own configuration tells."""

from __future__ import annotations

from enum import StrEnum

from core.store import Store


class Durability(StrEnum):
    """The levels of docs/payment.md."""

    ALWAYS = "L3"  # each write is on the disk before it is answered: survives a kill, and a loss of power
    EVERY_SECOND = "L2"  # a kill may lose a second, which the workers write again
    UNKNOWN = "L1"  # nothing is written, or a managed Redis does not tell: the workers and the chain must do


async def durability(store: Store) -> Durability:
    """Of the Redis behind a store. Raises StoreUnavailable."""
    configured = await store.config("append*")
    if configured.get("appendonly") != "yes":
        return Durability.UNKNOWN
    fsync = {"always": Durability.ALWAYS, "everysec": Durability.EVERY_SECOND}
    return fsync.get(configured.get("appendfsync", ""), Durability.UNKNOWN)
