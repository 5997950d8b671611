"""What the Oracle is to be told: the accounts' totals, and how far it knows them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from core import redis_keys
from core.store import Store

MOST_TOKENS = 1_000_000_000  # the Oracle refuses a larger figure
AHEAD_S = 60  # the Oracle refuses a timestamp that is further from its clock


@dataclass(frozen=True, slots=True)
class Report:
    """One message to the Oracle; `tokens` and `requests` are cumulative."""

    wallet: str  # lower-case
    timestamp: int  # unix seconds
    tokens: int
    requests: int
    avg_latency_ms: float


class Lead(Protocol):
    """The proof of who leads the fleet."""

    @property
    def fence(self) -> int:
        """The number of this lead. Raises NotLeading."""
        ...


class Counters:
    """
    Gives out reports, and notes which were accepted.

    All of it stands in Redis: whoever reports next goes on where the last one was stopped, at any point. `most` is
    the largest figure of a report. All methods raise StoreUnavailable when Redis is away; those that write raise
    NotLeading, or do nothing, when another process leads.
    """

    def __init__(self, store: Store, lead: Lead, *, most: int = MOST_TOKENS) -> None:
        self._store = store
        self._lead = lead
        self._most = most

    async def accounts(self) -> list[str]:
        """The names of all accounts that hold anything."""
        return sorted(await self._store.hash(redis_keys.ACCOUNTS))

    async def begin(self, account: str, wallet: str, now: float) -> Report | None:
        """The next report of an account, under a timestamp that no other one has; None when all is told."""
        keys = [redis_keys.account(account), redis_keys.account_told(account), redis_keys.FENCE]
        args = (wallet, int(now), self._most, AHEAD_S, self._lead.fence)
        begun = await self._store.run("report_begin", keys, args)
        if begun is None:
            return None
        timestamp, tokens, requests, latency_ms, answers = begun
        return Report(wallet, timestamp, tokens, requests, round(latency_ms / answers, 2) if answers else 0)

    async def done(self, account: str, report: Report) -> None:
        """The Oracle has accepted it; repeating this, or coming late, is harmless."""
        keys = [redis_keys.account_told(account), redis_keys.FENCE]
        args = (report.timestamp, report.tokens, report.requests, self._most, self._lead.fence)
        await self._store.run("report_done", keys, args)

    async def timestamps(self, account: str) -> tuple[int, int]:
        """The last timestamp that was taken and the last one that was accepted; 0 for none."""
        told = await self._store.hash(redis_keys.account_told(account))
        return int(told.get("timestamp", 0)), int(told.get("accepted_at", 0))
