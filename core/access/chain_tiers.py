"""Tiers by the payment contract: from this process' memory, else from Redis, else from the chain."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import partial
from typing import Any, Protocol

from core.access.tier_cache import TOPIC, Entry, TierCache
from core.access.tiers import OPERATOR_STANDING, UNKNOWN_STANDING, Source, Standing
from core.auth.caller import Caller
from core.bus import Bus
from core.catalog import Tier
from core.chain.payment_contract import Credit
from core.clock import Clock
from core.ending import end
from core.errors import ChainUnavailable

REMEMBER_S = 5.0  # how long a process trusts its own memory: what it missed of the bus is this old at most
REMEMBERED = 10_000  # wallets
LOOK_S, LOOKS = 0.03, 100  # how often to look whether another worker, which asks already, has the answer


class CreditReader(Protocol):
    """The payment contract."""

    async def credit(self, user: str) -> Credit:
        """What it knows of a lower-case address. Raises ChainUnavailable."""
        ...


class ChainTiers:
    """
    Each wallet's standing.

    However many requests ask for one wallet, in however many workers, the contract is asked once. An entry is read
    anew before its end, behind the back of the request that finds it due. While the chain is away the last answer
    holds for another hour; a wallet without any is Free until the chain is back, and nothing of that is kept.
    """

    def __init__(self, cache: TierCache, contract: CreditReader, bus: Bus, clock: Clock) -> None:
        self._cache = cache
        self._contract = contract
        self._bus = bus
        self._clock = clock
        self._remembered: OrderedDict[str, tuple[float, Entry]] = OrderedDict()
        self._forgotten = 0  # how often something was forgotten
        self._lookups: dict[str, asyncio.Task[Standing]] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Hears from now on what happens on the chain."""
        self._bus.when_back(self._forget_all)
        await self._bus.subscribe(TOPIC, lambda message: self._forget(message.decode()))

    async def stop(self) -> None:
        """Ends what goes on behind the requests."""
        await end([*self._refreshing.values(), *self._lookups.values()])

    async def tier_of(self, caller: Caller) -> Tier:
        """The caller's tier. Raises StoreUnavailable."""
        return (await self.standing_of(caller)).tier

    async def standing_of(self, caller: Caller) -> Standing:
        """The caller's tier and credit, and how well they are known. Raises StoreUnavailable."""
        if caller.is_operator:
            return OPERATOR_STANDING
        remembered = self._remembered.get(caller.subject)
        if remembered is not None and self._clock.monotonic() < remembered[0]:
            return _standing(remembered[1], Source.FRESH)
        lookup = self._lookups.get(caller.subject)
        if lookup is None:
            lookup = self._lookups[caller.subject] = asyncio.create_task(self._look_up(caller.subject))
            lookup.add_done_callback(partial(_end, self._lookups, caller.subject))
        return await asyncio.shield(lookup)  # one request that leaves must not end it for the others

    async def _look_up(self, address: str) -> Standing:
        forgotten = self._forgotten
        entry, claim = await self._find(address)
        if claim is not None:
            entry = await self._read(address, claim) or entry
        now = self._clock.now()
        if entry is None or not entry.is_usable(now):
            return UNKNOWN_STANDING
        if not entry.is_fresh(now):
            return _standing(entry, Source.STALE)
        if forgotten == self._forgotten:
            self._remember(address, entry)
        if entry.is_due(now):
            self._refresh(address)
        return _standing(entry, Source.FRESH)

    async def _find(self, address: str) -> tuple[Entry | None, str | None]:
        """A fresh entry, or the claim to read it, or what there is after waiting for who has the claim."""
        for _ in range(LOOKS):
            entry, claim = await self._cache.look(address)
            if claim is not None or self._fresh(entry):
                break
            await asyncio.sleep(LOOK_S)
        return entry, claim

    def _fresh(self, entry: Entry | None) -> bool:
        return entry is not None and entry.is_fresh(self._clock.now())

    async def _read(self, address: str, claim: str) -> Entry | None:
        """The contract's answer, shared with all workers; None when there is none."""
        credit = None
        try:
            credit = await self._contract.credit(address)
        except ChainUnavailable:
            pass
        finally:
            entry = await self._cache.keep(address, claim, credit)
        return entry

    def _refresh(self, address: str) -> None:
        if address not in self._refreshing:
            task = self._refreshing[address] = asyncio.create_task(self._read_ahead(address))
            task.add_done_callback(partial(_end, self._refreshing, address))

    async def _read_ahead(self, address: str) -> None:
        _, claim = await self._cache.look(address, ahead=True)
        if claim is not None:
            await self._read(address, claim)

    # -- this process' memory

    def _remember(self, address: str, entry: Entry) -> None:
        self._remembered[address] = (self._clock.monotonic() + REMEMBER_S, entry)
        self._remembered.move_to_end(address)
        if len(self._remembered) > REMEMBERED:
            self._remembered.popitem(last=False)

    def _forget(self, address: str) -> None:
        self._forgotten += 1
        self._remembered.pop(address, None)

    def _forget_all(self) -> None:
        self._forgotten += 1
        self._remembered.clear()


def _end(tasks: dict[str, asyncio.Task[Any]], address: str, task: asyncio.Task[Any]) -> None:
    """Its failure was told to whoever waits; when nobody does, the next request will meet it."""
    del tasks[address]
    if not task.cancelled():
        task.exception()


def _standing(entry: Entry, source: Source) -> Standing:
    return Standing(Tier.PRO if entry.credit.is_pro else Tier.FREE, source, entry.credit)
