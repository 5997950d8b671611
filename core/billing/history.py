"""What a user has paid: his settlements on the chain, each with the requests that it covers."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from core import redis_keys
from core.auth.caller import Caller
from core.errors import PaymentOff
from core.settlement.journal import Settlement
from core.store import Store

MOST_REQUESTS = 1000  # ids that are listed of one settlement


@dataclass(frozen=True, slots=True)
class Page:
    """Some settlements, newest first, and what is not settled yet. Request ids are the newest first too."""

    settlements: list[tuple[Settlement, list[str]]]
    unsettled_tokens: int
    unsettled_requests: list[str]
    next: int | None  # the `before` of the next page, None behind the last settlement


class History:
    """Reads what the settler has written."""

    def __init__(self, store: Store | None) -> None:
        self._store = store  # None without a payment contract

    async def page(self, caller: Caller, limit: int, before: int | None) -> Page:
        """
        Up to `limit` of the caller's settlements, all of them older than `before`.

        Raises StoreUnavailable, or PaymentOff without a payment contract.
        """
        if self._store is None:
            raise PaymentOff
        user = caller.subject
        keys = [redis_keys.settlements(user), redis_keys.charges(user), redis_keys.credit(user)]
        args: list[str | int] = ["+inf" if before is None else f"({before}", limit + 1, MOST_REQUESTS]
        found, requests, tokens, unsettled = await self._store.run("history", keys, args)
        settlements = [msgspec.json.decode(text, type=Settlement) for text in found[:limit]]
        more = settlements[-1].to_cum if len(found) > limit else None
        return Page(list(zip(settlements, requests, strict=False)), int(tokens), unsettled, more)
