"""The settler's journal in Redis: what is on its way to the chain, written down before it goes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

import msgspec

from core import redis_keys
from core.settlement.fees import Fees
from core.store import Store

KEPT_S = 30 * 24 * 3600  # a final transaction
MOST_CHARGES, MOST_SETTLEMENTS = 10_000, 1_000  # of one user, that are settled


class Attempt(msgspec.Struct, frozen=True):
    """One signed form of a transaction."""

    raw: str
    hash: str
    max_fee: int
    tip: int
    at: int  # unix ms

    @property
    def fees(self) -> Fees:
        """What it offers."""
        return Fees(self.max_fee, self.tip)


@dataclass(frozen=True, slots=True)
class OpenTx:
    """A transaction that is not final: it settles the user's tokens (from_cum, to_cum]."""

    epoch: str
    nonce: int
    user: str
    tokens: int
    from_cum: int
    to_cum: int
    attempts: tuple[Attempt, ...] = ()


class Settlement(msgspec.Struct, frozen=True):
    """A final one, as its user is told of it."""

    tx: str
    block: int
    tokens: int
    from_cum: int
    to_cum: int
    cost_wei: str
    at: int  # unix ms


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a journal is."""

    ledger: str = ""  # the chain and the contract that the users' credits are settled with
    account: str = ""  # the chain and the account that debits

    @classmethod
    def of(cls, chain_id: int, contract: str, account: str) -> Owner:
        """By lower-case addresses."""
        return cls(f"{chain_id}:{contract}", f"{chain_id}:{account}")


@dataclass(frozen=True, slots=True)
class Adoption:
    """What became of a ledger that was another contract's."""

    users: int
    tokens: int  # that were not settled, and are not debited any more


@dataclass(frozen=True, slots=True)
class View:
    """The journal at one moment. When `next` is None it is lost, may have lost something, or is another account's."""

    epoch: str
    next: int | None
    open: tuple[OpenTx, ...] = ()  # the lowest nonce first


class Journal:
    """
    Every method raises StoreUnavailable.

    Each life of the journal has an epoch, a random token. What was begun in one life changes nothing in another, nor
    in a Redis that was restarted since: that one may have forgotten the latest.
    """

    def __init__(self, store: Store, owner: Owner = Owner()) -> None:
        self._store = store
        self.owner = owner

    async def look(self) -> View:
        """What is open. Raises ForeignLedger."""
        keys = [*_life(), redis_keys.JOURNAL_NEXT, redis_keys.JOURNAL_OPEN, *_owner()]
        args = (redis_keys.journal_tx(""), self.owner.ledger, self.owner.account)
        said = await self._store.run("settle_look", keys, args)
        if not said:
            raise ForeignLedger
        epoch, written_in, run, next_nonce, entries, account = said
        if not epoch or not next_nonce or written_in != run or account != self.owner.account:
            return View(epoch, None)
        try:
            return View(epoch, int(next_nonce), tuple(_open_tx(entry) for entry in entries))
        except ValueError:  # a transaction is gone, or half of it
            return View(epoch, None)

    async def plan(self, epoch: str, nonce: int, user: str, affordable: int, most: int) -> OpenTx | None:
        """
        Sets up to `affordable` tokens of a user aside for a transaction; notes a debt when that is not all he owes.

        None when there is nothing to settle, and JournalMoved when this nonce is another one's by now.
        """
        keys = [
            *_life(),
            redis_keys.JOURNAL_NEXT,
            redis_keys.JOURNAL_OPEN,
            redis_keys.journal_tx(nonce),
            redis_keys.journal_attempts(nonce),
            redis_keys.credit(user),
            redis_keys.FROZEN,
            redis_keys.JOURNAL_HIGH,
        ]
        planned = await self._store.run("settle_plan", keys, [epoch, nonce, user, affordable, most])
        if not planned:
            return None
        if planned == -1:
            raise JournalMoved
        tokens, settled = planned
        return OpenTx(epoch, nonce, user, tokens, settled, settled + tokens)

    async def append(self, tx: OpenTx, attempt: Attempt) -> bool:
        """Writes a signed form down; False when it must not be sent, since it is not the next one of an open one."""
        keys = [
            redis_keys.JOURNAL_EPOCH,
            redis_keys.JOURNAL_OPEN,
            redis_keys.journal_tx(tx.nonce),
            redis_keys.journal_attempts(tx.nonce),
        ]
        text = msgspec.json.encode(attempt).decode()
        return bool(await self._store.run("settle_attempt", keys, [tx.epoch, tx.nonce, len(tx.attempts), text]))

    async def close(self, tx: OpenTx, settlement: Settlement | None) -> bool:
        """Ends one: its tokens are settled, or, with None, outstanding again. False when it was ended before."""
        keys = [
            *_life(),
            redis_keys.JOURNAL_OPEN,
            redis_keys.journal_tx(tx.nonce),
            redis_keys.journal_attempts(tx.nonce),
            redis_keys.credit(tx.user),
            redis_keys.OUTSTANDING,
            redis_keys.SETTLED,
            redis_keys.charges(tx.user),
            redis_keys.settlements(tx.user),
        ]
        text = "" if settlement is None else msgspec.json.encode(settlement).decode()
        args = (tx.epoch, tx.nonce, text, KEPT_S, MOST_CHARGES, MOST_SETTLEMENTS)
        return bool(await self._store.run("settle_final", keys, args))

    async def adopt(self) -> Adoption | None:
        """
        Makes the ledger that of the owner's contract; None when it is already.

        Whatever was used so far is settled. Raises JournalOpen while a transaction for the former contract is open.
        """
        keys = [
            redis_keys.LEDGER,
            redis_keys.JOURNAL_EPOCH,
            redis_keys.JOURNAL_NEXT,
            redis_keys.JOURNAL_OPEN,
            redis_keys.OUTSTANDING,
            redis_keys.SETTLED,
            redis_keys.FROZEN,
        ]
        said = await self._store.run("settle_adopt", keys, [self.owner.ledger, new_epoch(), redis_keys.credit("")])
        if said == -1:
            raise JournalOpen
        return Adoption(*said) if said else None


class ForeignLedger(Exception):
    """The users' credits are settled with another contract, or on another chain: here, all would be debited again."""

    def __init__(self) -> None:
        super().__init__("the ledger is of another contract")


class JournalOpen(Exception):
    """Debits are on their way, which nobody would follow any more."""

    def __init__(self) -> None:
        super().__init__("a debit by the former contract is on its way: its settler must end that first")


class JournalMoved(Exception):
    """Another settler wrote meanwhile, or the journal is full: what was to be planned waits for the next turn."""


def new_epoch() -> str:
    """The name of a life of the journal."""
    return secrets.token_hex(8)


def _life() -> list[str]:
    return [redis_keys.JOURNAL_EPOCH, redis_keys.JOURNAL_RUN]


def _owner() -> list[str]:
    return [redis_keys.LEDGER, redis_keys.JOURNAL_ACCOUNT]


def _open_tx(entry: list[Any]) -> OpenTx:
    nonce, epoch, user, tokens, from_cum, to_cum, attempts = entry
    if not user:
        raise ValueError
    decoded = tuple(msgspec.json.decode(text, type=Attempt) for text in attempts)
    return OpenTx(epoch, int(nonce), user, int(tokens), int(from_cum), int(to_cum), decoded)
