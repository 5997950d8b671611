"""A new journal from the chain alone, for when the old one is gone, has lost something, or can't be right."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from random import SystemRandom

from core import redis_keys
from core.chain.debits import Debits
from core.settlement.accounts import Account
from core.settlement.desk import Desk, Now
from core.settlement.fees import Fees, burning
from core.settlement.journal import ForeignLedger, View, new_epoch
from core.settlement.payload import NOTHING_GAS, nothing
from core.settlement.planning import NO_GAS

RECOVERING = "recovering"
STAND_BACK_S = 30.0  # for another settler's recovery
BATCH, BATCH_CHARGES = 500, 5000  # users that are written in one step, and charges: Redis serves nobody else meanwhile
KNOWN_BLOCKS = 100  # of older ones, endpoints know no balances
PATIENT_TURNS = 4  # between two offers for a nonce

_JOURNAL = (redis_keys.JOURNAL_EPOCH, redis_keys.JOURNAL_NEXT, redis_keys.JOURNAL_RUN)

log = logging.getLogger(__name__)
chance = SystemRandom()


@dataclass
class _Life:
    """One attempt at a recovery."""

    epoch: str
    run: str  # of Redis
    high: int  # by Redis, no former life can have signed from this nonce on
    block: int  # the chain's head after the epoch
    began: float  # monotonic seconds
    end: int | None = None  # the first nonce that no former life can have signed for, once it is known
    turns: int = 0


class Recovery:
    """
    Goes one step a turn, so that the settler can say meanwhile how it is.

    1. A new epoch: nothing that was begun before can be journaled any more, so the forms that exist are all there are.
    2. The account's nonce is read some blocks later. A former life had so many transactions open at most; an endpoint
       that was behind may have told an old nonce, but does not know those blocks then.
    3. Every nonce that one of them may have is used up, by it or by a transfer of nothing: a signed debit that the
       journal forgot is in a block after that, or will never be.
    4. When those blocks stand, what each user was debited is read from the chain, and written as what he settled.

    The account's own count does not tell that there was no journal: a debit may have been signed and never mined.
    So the first start does the same; it costs 17 transfers of nothing.
    Every method raises StoreUnavailable, ChainUnavailable and ForeignLedger.
    """

    def __init__(self, desk: Desk, debits: Debits) -> None:
        self._desk = desk
        self._debits = debits
        self._life: _Life | None = None
        self._block = 0  # at which the debits were read last
        self._not_before = float("-inf")

    async def step(self, view: View, now: Now) -> str:
        """One step further; what /ready is to say."""
        if self._life is not None and self._life.epoch != view.epoch:
            self._life = None
            if view.epoch:  # another one began: two that begin anew in turn would never end
                self._not_before = self._desk.clock.monotonic() + STAND_BACK_S * chance.uniform(0.5, 1)
        if self._desk.clock.monotonic() < self._not_before:
            return RECOVERING
        if self._life is None:
            self._life = await self._begin()
            self._desk.at("recover_epoch")
        life = self._life
        if life.end is None:
            life.end = await self._end(life, now)
        if life.end is None:
            return await self._afford(self._desk.rules.in_flight + 1, self._fees(life))
        if now.count < life.end:
            return await self._burn(life, now.count, life.end)
        if (block := await self._standing(now)) is None:
            return RECOVERING
        self._desk.at("recover_burned")
        if await self._write(life, block, now.count):
            self._life = None
        return RECOVERING

    async def _begin(self) -> _Life:
        log.warning("the settler's journal is not there or not whole: it is made anew from the chain")
        epoch = new_epoch()
        keys = [
            redis_keys.JOURNAL_EPOCH,
            redis_keys.JOURNAL_NEXT,
            redis_keys.JOURNAL_OPEN,
            redis_keys.JOURNAL_HIGH,
            redis_keys.LEDGER,
            redis_keys.JOURNAL_ACCOUNT,
        ]
        owner = self._desk.journal.owner
        said = await self._desk.store.run("recover_begin", keys, [epoch, owner.ledger, owner.account])
        if not said:
            raise ForeignLedger
        run, high = said
        # From here on no nonce is taken any more: only a block behind this one tells them all.
        return _Life(epoch, run, high, (await self._desk.account.head()).number, self._desk.clock.monotonic())

    async def _end(self, life: _Life, now: Now) -> int | None:
        """None as long as the chain is not so many blocks further that the account's nonce can be relied on."""
        if now.head.number < life.block + self._desk.rules.confirmations:
            return None
        count = await self._desk.account.count(now.head.number)  # an endpoint without this block does not answer
        count = max(count, now.count, await self._desk.account.count("pending"))
        return max(count + self._desk.rules.in_flight + 1, life.high)

    async def _burn(self, life: _Life, first: int, end: int) -> str:
        fees = self._fees(life)
        life.turns += 1
        if (refusal := await self._afford(end - first, fees)) != RECOVERING:
            return refusal
        for nonce in range(first, end):
            await self._desk.sender.burn(nonce, nothing(self._desk.account.address), fees)
            self._desk.at("recover_burning")
        return RECOVERING

    async def _standing(self, now: Now) -> int | None:
        """The block at which the debits are to be read, None yet: the last one again, so that a reading can go on."""
        for block in (self._block, max(self._block, now.head.number - self._desk.rules.confirmations)):
            if now.head.number - block < KNOWN_BLOCKS and await self._stands(block, now.count):
                self._block = block
                return block
        return None

    async def _stands(self, block: int, count: int) -> bool:
        """Whether this block has the latest nonce, and a debit that it does not have will never be."""
        if await self._desk.account.count(block) != count:
            return False
        # What another key has signed is in a block before this one, or the contract refuses it.
        return await self._desk.contract.gateway(block) == self._desk.account.address

    def _fees(self, life: _Life) -> Fees:
        return burning(life.turns // PATIENT_TURNS, self._desk.rules.max_fee)

    async def _afford(self, nonces: int, fees: Fees) -> str:
        """Whether the account can use so many nonces up, as /ready is to say it."""
        return RECOVERING if await self._desk.account.money() >= nonces * NOTHING_GAS * fees.max_fee else NO_GAS

    async def _write(self, life: _Life, block: int, next_nonce: int) -> bool:
        """Whether this recovery is over, one way or the other; not yet when workers may still repeat their commits."""
        debited = await self._debits.totals(block)
        self._desk.at("recover_read")
        accounts = await self._desk.accounts.all()
        waited = self._desk.clock.monotonic() - life.began > self._desk.rules.replay_s
        if not waited and any(_is_behind(accounts.get(user), tokens) for user, tokens in debited.items()):
            return False
        users = sorted(debited.keys() | accounts.keys())
        await self._debits.confirm(users)
        if not await self._write_users(life, [(user, debited.get(user, 0)) for user in users]):
            return True
        args = (life.epoch, life.run, next_nonce, self._desk.rules.in_flight)
        if await self._desk.store.run("recover_finish", [*_JOURNAL, redis_keys.JOURNAL_HIGH], args):
            log.info("the settler's journal is made anew: %s users, next nonce %s", len(users), next_nonce)
            self._desk.at("recover_written")
        return True

    async def _write_users(self, life: _Life, pairs: list[tuple[str, int]]) -> bool:
        keys = [*_JOURNAL, redis_keys.OUTSTANDING, redis_keys.SETTLED]
        prefixes = (redis_keys.credit(""), redis_keys.charges(""), redis_keys.charge(""))
        done = 0
        while done < len(pairs):
            flat = [value for pair in pairs[done : done + BATCH] for value in pair]
            args = (life.epoch, life.run, *prefixes, BATCH_CHARGES, *flat)
            if not (written := await self._desk.store.run("recover_write", keys, args)):
                return False
            done += written
        return True


def _is_behind(account: Account | None, debited: int) -> bool:
    """Whether Redis knows less of a user than the chain."""
    if account is None or account.settled is None:
        return True
    return account.base is not None and account.cum < account.base + debited
