"""What happens at the payment contract ends what is known of the tiers."""

from __future__ import annotations

from core.access.tier_cache import TierCache
from core.chain.payment_events import Logs, PaymentEvents

OVERLAP = 6  # blocks that are read again each time: a reorganisation may have changed them
MOST_BEHIND = 2000  # blocks; whoever was away for longer finds no fresh entry any more
CHUNK = 500  # blocks that are asked for at once


class TierEvents:
    """Follows the contract's events from the block on that was seen last, by whoever had the lead then."""

    def __init__(self, cache: TierCache, events: PaymentEvents) -> None:
        self._cache = cache
        self._events = events
        self._seen: Logs = {}

    async def catch_up(self) -> None:
        """Reads all that happened since the last time. Raises ChainUnavailable or StoreUnavailable."""
        newest = await self._events.newest_block()
        seen = await self._cache.block()
        first = newest if seen is None else max(0, min(seen, newest) + 1 - OVERLAP, newest - MOST_BEHIND)
        while first <= newest:
            last = min(first + CHUNK - 1, newest)
            await self._note(await self._events.between(first, last))
            await self._cache.keep_block(last)
            first = last + 1

    async def heard(self, user: str) -> None:
        """Something happened to this user's deposit just now. Raises StoreUnavailable."""
        await self._cache.expire(user)

    async def _note(self, logs: Logs) -> None:
        for user in {user for log, user in logs.items() if log not in self._seen}:
            await self._cache.expire(user)
        self._seen = logs
