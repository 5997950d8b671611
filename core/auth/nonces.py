"""Nonces of open sign-ins, shared by all workers; Redis' own clock says how long they live."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from core import redis_keys
from core.store import Store

LIFE_MS = 5 * 60 * 1000
MOST_OPEN = 5  # for one address at a time


@dataclass(frozen=True, slots=True)
class Nonce:
    """One nonce, and what else its challenge says."""

    value: str  # 64 hex digits
    issued_ms: int  # unix ms
    origin: str


class Nonces:
    """
    Issues nonces, and lets each be used once.

    Anybody may ask for a nonce for any address. That neither replaces nor ends one that is open already: whoever asks
    while MOST_OPEN are open gets the newest once more, with a whole life before it. Every method takes
    a lower-case address, and raises StoreUnavailable.
    """

    def __init__(self, store: Store, life_ms: int = LIFE_MS) -> None:
        self._store = store
        self._life_ms = life_ms

    async def issue(self, address: str, origin: str) -> Nonce:
        """A nonce for the address; `origin` is the site that asks."""
        args = (secrets.token_hex(32), self._life_ms, MOST_OPEN, origin)
        value, issued_ms, origin = await self._store.run("nonce_issue", [redis_keys.nonces(address)], args)
        return Nonce(value, int(issued_ms), origin)

    async def of(self, address: str) -> list[Nonce]:
        """What may be open; whether it has expired meanwhile, only `consume` can tell."""
        return [_parse(value, state) for value, state in (await self._store.hash(redis_keys.nonces(address))).items()]

    async def consume(self, address: str, nonce: Nonce) -> bool:
        """True for exactly one caller, and only while the nonce is open."""
        return bool(await self._store.run("nonce_consume", [redis_keys.nonces(address)], [nonce.value]))


def _parse(value: str, state: str) -> Nonce:
    issued_ms, _, origin = state.split("|", 2)
    return Nonce(value, int(issued_ms), origin)
