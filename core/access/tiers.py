"""Which tier a caller has."""

from __future__ import annotations

from typing import Protocol

from core.auth.caller import Caller
from core.catalog import Tier


class TierResolver(Protocol):
    """Where tiers come from."""

    async def tier_of(self, caller: Caller) -> Tier:
        """The tier that the caller has now."""
        ...


class FreeForAll:
    """Nobody can pay while there is no payment contract: wallets are Free, the operator's key is Pro."""

    async def tier_of(self, caller: Caller) -> Tier:
        return Tier.PRO if caller.is_operator else Tier.FREE
