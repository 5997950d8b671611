"""Who leads: a lease in Redis that one process of the fleet holds at a time, and the token that proves it."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

from core import redis_keys
from core.clock import Clock
from core.errors import StoreUnavailable
from core.store import Store

FLEET = (redis_keys.LEADER, redis_keys.FENCE)
TTL_S = 6.0
SAFE = 0.8  # share of the life after which a holder who could not renew stops acting: before another one may begin
RENEWALS = 3  # in one life
SHORTEST_S = 0.05  # between two tries

log = logging.getLogger(__name__)


class NotLeading(Exception):
    """This process does not lead, or not any more: what it was about to write must not be written."""


class Lease:
    """
    A lead, for `ttl_s` seconds at a time: that of the fleet, or what the keys are of. `holder` names this process.

    A lease alone is not safe: a process may be stopped in the middle of its work and go on when another one leads.
    So each lead has a number, higher than all before, and whoever writes as the leader does it by a script that
    gets `fence` as an argument, `redis_keys.FENCE` as a key, and writes nothing when the key holds a higher number:

        if tonumber(ARGV[1]) < tonumber(redis.call('GET', KEYS[1]) or 0) then return 0 end
    """

    def __init__(
        self, store: Store, holder: str, clock: Clock, ttl_s: float = TTL_S, keys: tuple[str, str] = FLEET
    ) -> None:
        self.holder = holder
        self._store = store
        self._clock = clock
        self._ttl_s = ttl_s
        self._key, self._fence_key = keys
        self._fence = 0
        self._until = 0.0  # monotonic seconds

    @property
    def fence(self) -> int:
        """The number of this lead. Raises NotLeading."""
        if not self.is_held:
            raise NotLeading
        return self._fence

    @property
    def is_held(self) -> bool:
        """Whether this process may act as the leader now."""
        return self._clock.monotonic() < self._until

    async def take(self) -> bool:
        """Takes the lead when nobody has it. Raises StoreUnavailable."""
        asked = self._clock.monotonic()
        keys = [self._key, self._fence_key]
        fence: int = await self._store.run("lease_take", keys, [self.holder, self._ttl_ms])
        if fence:
            self._fence, self._until = fence, asked + self._ttl_s * SAFE
        return bool(fence)

    async def hold(self) -> None:
        """Renews the lead, and returns when it is lost: to another process, or since Redis did not answer in time."""
        while True:
            left_s = self._until - self._clock.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(max(SHORTEST_S, min(self._ttl_s / RENEWALS, left_s / 2)))
            with suppress(StoreUnavailable):
                await self._renew()

    async def release(self) -> None:
        """Lets another process lead at once; a Redis that is away does so by itself, later."""
        self._until = 0.0
        with suppress(StoreUnavailable):
            await self._store.run("lease_release", [self._key], [self.holder])

    async def _renew(self) -> None:
        asked = self._clock.monotonic()
        renewed = await self._store.run("lease_renew", [self._key], [self.holder, self._ttl_ms])
        if not renewed:
            self._until = 0.0
        elif self.is_held:
            self._until = asked + self._ttl_s * SAFE

    @property
    def _ttl_ms(self) -> int:
        return int(self._ttl_s * 1000)


async def leader(store: Store) -> str | None:
    """The name of the process that leads; None when none does. Raises StoreUnavailable."""
    return await store.get(redis_keys.LEADER)
