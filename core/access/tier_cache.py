"""What the payment contract said of each wallet, kept in Redis for all workers."""

from __future__ import annotations

import secrets
from dataclasses import astuple, dataclass
from random import SystemRandom

from core import redis_keys
from core.bus import Bus
from core.chain.payment_contract import Credit
from core.clock import Clock
from core.store import Store

FRESH_S = 300
JITTER = 0.1  # share of it, so that what was read together is not read anew together
REFRESH_AT = 0.8  # share of an entry's fresh life after which it is read anew ahead of its end
STALE_S = 3600  # how long after that it still serves while the chain is away
LIFE_S = int(FRESH_S * (1 + JITTER)) + STALE_S
CLAIM_MS = 5000  # longer than the chain may take
TOPIC = redis_keys.to_all("tiers")

chance = SystemRandom()


@dataclass(frozen=True, slots=True)
class Entry:
    """One wallet's. Times are unix seconds."""

    credit: Credit
    read_at: float
    fresh_until: float  # 0 once something happened on the chain

    def is_fresh(self, now: float) -> bool:
        """Whether it may be used without a word to the chain."""
        return now < self.fresh_until

    def is_due(self, now: float) -> bool:
        """Whether it should be read anew."""
        return now >= self.read_at + (self.fresh_until - self.read_at) * REFRESH_AT

    def is_usable(self, now: float) -> bool:
        """Whether it may stand in for a chain that is away."""
        return now < max(self.fresh_until, self.read_at + FRESH_S) + STALE_S


class TierCache:
    """All methods take a lower-case address, and raise StoreUnavailable unless they say otherwise."""

    def __init__(self, store: Store, bus: Bus, clock: Clock) -> None:
        self._store = store
        self._bus = bus
        self._clock = clock

    async def look(self, address: str, *, ahead: bool = False) -> tuple[Entry | None, str | None]:
        """
        What is known, and a claim when the caller is to ask the contract for more.

        `ahead` wants the claim also while the entry is fresh. Whoever gets a claim must call `keep` with it.
        """
        claim = secrets.token_hex(8)
        args = (claim, CLAIM_MS, str(self._clock.now()), int(ahead))
        credit, read_at, fresh_until, claimed = await self._store.run("tier_claim", _keys(address), args)
        entry = Entry(_credit(credit), float(read_at), float(fresh_until)) if credit else None
        return entry, claim if claimed else None

    async def keep(self, address: str, claim: str, credit: Credit | None) -> Entry | None:
        """Shares the contract's answer, None when there was none, and ends the claim; the entry that it makes."""
        now = self._clock.now()
        fresh_until = now + FRESH_S * chance.uniform(1 - JITTER, 1 + JITTER)
        args = (claim, "" if credit is None else _text(credit), str(now), str(fresh_until), LIFE_S)
        await self._store.run("tier_store", _keys(address), args)
        return None if credit is None else Entry(credit, now, fresh_until)

    async def expire(self, address: str) -> None:
        """Something happened to this wallet's deposit; all workers forget what they have of it."""
        await self._store.run("tier_expire", _keys(address), [])
        self._bus.post(TOPIC, address.encode())

    async def block(self) -> int | None:
        """The block up to which the chain's events were heard."""
        block = await self._store.get(redis_keys.TIERS_BLOCK)
        return None if block is None else int(block)

    async def keep_block(self, block: int) -> None:
        """Notes it; after a day without a word nothing of it matters any more."""
        await self._store.set(redis_keys.TIERS_BLOCK, str(block), ttl_s=24 * 3600)


def _keys(address: str) -> list[str]:
    return [redis_keys.tier(address), redis_keys.tier_reading(address)]


def _text(credit: Credit) -> str:
    return " ".join(str(int(value)) for value in astuple(credit))


def _credit(text: str) -> Credit:
    balance, used, last_deposit, is_pro = (int(value) for value in text.split())
    return Credit(balance, used, last_deposit, bool(is_pro))
