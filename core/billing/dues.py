"""What a user has used or asked for, and not paid on the chain yet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from core import redis_keys
from core.store import Store


@dataclass(frozen=True, slots=True)
class Dues:
    """Tokens, and whether the deposit could not pay for what was used."""

    outstanding: int
    reserved: int  # held for requests that are under way, at their longest
    in_debt: bool

    @classmethod
    async def of(cls, store: Store, user: str) -> Self:
        """A lower-case address'. Raises StoreUnavailable."""
        found = await store.hash(redis_keys.credit(user))
        outstanding = int(found.get("cum", 0)) - int(found.get("settled", 0))
        return cls(max(0, outstanding), int(found.get("reserved", 0)), found.get("debt") == "1")
