"""What the parts of a settler share."""

from __future__ import annotations

from dataclasses import dataclass

from core.access.tier_cache import TierCache
from core.chain.account import Account, Head
from core.chain.payment_contract import PaymentContract
from core.clock import Clock
from core.settlement.accounts import Accounts
from core.settlement.journal import Journal
from core.settlement.rules import Rules
from core.settlement.sender import Sender
from core.steps import Step
from core.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """`at` hears the name of each step as it is done."""

    store: Store
    account: Account
    accounts: Accounts
    contract: PaymentContract
    journal: Journal
    sender: Sender
    tiers: TierCache
    rules: Rules
    clock: Clock
    at: Step


@dataclass(frozen=True, slots=True)
class Now:
    """The chain at the beginning of a turn, read before the journal was."""

    head: Head
    count: int  # the gateway account's next nonce
