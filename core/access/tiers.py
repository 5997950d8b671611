"""Which tier a caller has, and how well that is known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from core.auth.caller import Caller
from core.catalog import Tier
from core.chain.payment_contract import Credit


class Source(StrEnum):
    """How well a standing is known."""

    FRESH = "fresh"
    STALE = "stale"  # the chain is away; this is what it said last
    UNKNOWN = "unknown"  # the chain is away and said nothing yet: Free for now
    OFF = "off"  # nobody asks a chain


@dataclass(frozen=True, slots=True)
class Standing:
    """A caller's tier, and the credit that it follows from as far as there is one."""

    tier: Tier
    source: Source
    credit: Credit | None = None


OPERATOR_STANDING = Standing(Tier.PRO, Source.OFF)
FREE_STANDING = Standing(Tier.FREE, Source.OFF)
UNKNOWN_STANDING = Standing(Tier.FREE, Source.UNKNOWN)


class TierResolver(Protocol):
    """Where tiers come from."""

    async def tier_of(self, caller: Caller) -> Tier:
        """The tier that the caller has now."""
        ...


class Standings(TierResolver, Protocol):
    """Where tiers come from, with all that is known of them."""

    async def standing_of(self, caller: Caller) -> Standing:
        """What the caller is now. Raises StoreUnavailable."""
        ...


class FreeForAll:
    """Nobody can pay while there is no payment contract: wallets are Free, the operator's key is Pro."""

    async def tier_of(self, caller: Caller) -> Tier:
        return (await self.standing_of(caller)).tier

    async def standing_of(self, caller: Caller) -> Standing:
        return OPERATOR_STANDING if caller.is_operator else FREE_STANDING
