"""The settler: takes what users owe to the chain, turn by turn."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from core.access.tier_cache import TierCache
from core.chain.account import Account
from core.chain.chain import Chain, ChainState
from core.chain.debits import Debits
from core.chain.payment_contract import NoContract, PaymentContract
from core.clock import Clock
from core.errors import ChainUnavailable
from core.settlement.accounts import Accounts, Standing
from core.settlement.desk import Desk, Now
from core.settlement.following import Follower, JournalLost
from core.settlement.journal import Adoption, ForeignLedger, Journal, Owner, View
from core.settlement.permission import Permission
from core.settlement.planning import Planner
from core.settlement.reconciling import Comparison, NoJournal, Reconciler
from core.settlement.recovery import Recovery
from core.settlement.rules import Rules
from core.settlement.sender import Sender
from core.settlement.status import OK, StatusBoard
from core.steps import Step, unwatched
from core.store import Store
from core.wallet import Signer

FOREIGN = "stopped: the ledger is of another contract (`python -m workers.settlement adopt` takes it over)"
NO_CONTRACT = "no contract"
LOOK_AGAIN_S = 60.0  # at whoever is frozen, when the first turn after that did not find him well
STATES = {ChainState.WRONG_CHAIN: "wrong chain", ChainState.UNAVAILABLE: "chain unavailable"}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What a settler works with."""

    store: Store
    chain: Chain
    chain_id: int
    contract: PaymentContract
    signer: Signer
    tiers: TierCache
    clock: Clock


class Settler:
    """
    Each token is debited once, whatever is killed, lost, late or said twice, and however many settlers run.

    A debit is planned, signed, written down, sent, and followed until its block stands. No answer of an endpoint to
    a sent transaction means anything: whether it happened is told by a receipt alone. `at` hears the name of each
    step as it is done.
    """

    def __init__(self, world: World, rules: Rules, at: Step = unwatched) -> None:
        account = Account(world.chain, world.signer.address)
        journal = Journal(world.store, Owner.of(world.chain_id, world.contract.address, account.address))
        desk = Desk(
            store=world.store,
            account=account,
            accounts=Accounts(world.store),
            contract=world.contract,
            journal=journal,
            sender=Sender(world.signer, account, world.chain_id, journal, world.clock),
            tiers=world.tiers,
            rules=rules,
            clock=world.clock,
            at=at,
        )
        self._chain = world.chain
        self._desk = desk
        self._permission = Permission(world.contract, account.address, world.clock)
        self._follower = Follower(desk)
        self._planner = Planner(desk, self._permission)
        self._recovery = Recovery(desk, Debits(world.chain, account, world.contract.address))
        self._status = StatusBoard(world.store, account.address)
        # A reading of its own: it is to find what a recovery got wrong.
        self._reconciler = Reconciler(desk, Debits(world.chain, account, world.contract.address))
        self._newest = 0  # block that a turn saw
        self._reconcile_at = self._look_again_at = float("-inf")

    async def tick(self) -> None:
        """One turn. Raises StoreUnavailable; a chain that is away is no error, and waited for."""
        standing = await self._desk.accounts.standing(self._desk.rules)
        await self._status.tell(await self._turn(standing), standing)

    async def _turn(self, standing: Standing) -> str:
        await self._chain.check()
        try:
            return await self._settle(standing)
        except NoContract:
            return NO_CONTRACT
        except ChainUnavailable:
            return STATES.get(self._chain.state, STATES[ChainState.UNAVAILABLE])
        except ForeignLedger:
            return FOREIGN

    async def _settle(self, standing: Standing) -> str:
        # In this order: what the chain knows can't be ahead of a journal that is read later.
        now = Now(await self._desk.account.head(), await self._desk.account.count())
        self._newest = max(self._newest, now.head.number)
        view = await self._desk.journal.look()
        if view.next is None or now.count > view.next:
            return await self._recover(view, now)
        try:
            is_open = await self._follower.follow(view, now)
        except JournalLost:
            return await self._recover(view, now)
        if (refusal := await self._permission.refusal()) is not None:
            return refusal
        with suppress(NoJournal):  # another settler has just lost it
            await self._reconcile_now_and_then(standing.frozen)
        return await self._planner.plan(view, now, is_open, standing.due) or OK

    async def _recover(self, view: View, now: Now) -> str:
        # With another gateway there is nothing to recover for, and its debits could come after what is read.
        return await self._permission.refusal() or await self._recovery.step(view, now)

    async def reconcile(self) -> Comparison:
        """
        Compares the ledger with the chain, and freezes whoever differs.

        Raises StoreUnavailable, ChainUnavailable, NoJournal and ForeignLedger.
        """
        return await self._reconciler.reconcile()

    async def adopt(self) -> Adoption | None:
        """Takes over another contract's ledger; None when it is this one's. Raises StoreUnavailable and JournalOpen."""
        return await self._desk.journal.adopt()

    async def _reconcile_now_and_then(self, frozen: list[str]) -> None:
        now = self._desk.clock.monotonic()
        if now >= self._reconcile_at:
            await self._reconciler.reconcile(self._newest)
            self._reconcile_at, self._look_again_at = now + self._desk.rules.reconcile_s, now
        elif frozen and now >= self._look_again_at:
            await self._reconciler.look_again(frozen, self._newest)
            self._look_again_at = now + LOOK_AGAIN_S
