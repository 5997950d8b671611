"""Who owes what, as the ledger has it."""

from __future__ import annotations

from dataclasses import dataclass

from core import redis_keys
from core.settlement.rules import Rules
from core.store import Store


@dataclass(frozen=True, slots=True)
class Standing:
    """All users at one moment."""

    outstanding: int  # tokens
    oldest_s: float  # age of the oldest of them
    frozen: list[str]  # users
    due: list[tuple[str, int]]  # users whose time it is, each with his tokens; the largest first


@dataclass(frozen=True, slots=True)
class Account:
    """One user's tokens."""

    cum: int
    settled: int | None  # None: nobody ever said so
    inflight: int
    base: int | None = 0  # settled is that much more than what the contract debited; None: a recovery is to find it

    @property
    def debited(self) -> int:
        """What the contract should have debited."""
        return (self.settled or 0) - (self.base or 0)


class Accounts:
    """Every method raises StoreUnavailable."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def standing(self, rules: Rules) -> Standing:
        """What is outstanding, and who is due."""
        keys = [redis_keys.OUTSTANDING, redis_keys.FROZEN]
        args = (redis_keys.credit(""), rules.enough_tokens, int(rules.interval_s * 1000))
        outstanding, oldest_ms, frozen, due = await self._store.run("settle_due", keys, args)
        pairs = sorted(zip(due[::2], map(int, due[1::2]), strict=True), key=lambda pair: -pair[1])
        return Standing(outstanding, oldest_ms / 1000, frozen, pairs)

    async def all(self) -> dict[str, Account]:
        """Everybody who owes something, or was ever settled."""
        keys = [redis_keys.OUTSTANDING, redis_keys.SETTLED]
        rows = await self._store.run("settle_accounts", keys, [redis_keys.credit("")])
        return {
            user: Account(int(cum or 0), _number(settled), int(inflight or 0), _number(base))
            for user, cum, settled, inflight, base in rows
        }

    async def freeze(self, users: list[str]) -> None:
        """From here on exactly these users are not settled."""
        await self._store.run("settle_freeze", [redis_keys.FROZEN], sorted(users))

    async def thaw(self, users: list[str]) -> None:
        """These are settled again; the others who are frozen are not."""
        await self._store.run("settle_thaw", [redis_keys.FROZEN], users)


def _number(text: str) -> int | None:
    return int(text) if text else None
