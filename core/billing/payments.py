"""What a user asks about his money: how much there is, and how to pay in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from core.access.tiers import Standing, Standings
from core.auth.caller import Caller
from core.billing.dues import Dues
from core.billing.price_list import PriceList
from core.chain.amounts import cost, plm
from core.chain.payment_contract import FUNCTIONS, Credit, PaymentContract, Terms, call_data
from core.errors import ChainUnavailable, PaymentOff
from core.store import Store


@dataclass(frozen=True, slots=True)
class Balance:
    """A user's credit, what of it is used already, and the price."""

    standing: Standing
    credit: Credit
    terms: Terms
    dues: Dues

    def cost(self, tokens: int) -> int:
        """Wei."""
        return cost(tokens, self.terms.cost_per_1000_tokens)

    @property
    def left(self) -> int:
        """Wei that further requests can have."""
        return max(0, self.credit.balance - self.cost(self.dues.outstanding + self.dues.reserved))


@dataclass(frozen=True, slots=True)
class DepositOffer:
    """A transaction that only the wallet's signature and gas are missing from, and what it leads to."""

    contract: str
    chain_id: int
    abi: list[Any]
    transaction: dict[str, str]  # as eth_sendTransaction takes it: quantities are hex
    amount_wei: int
    missing_for_pro_wei: int  # before this deposit
    pro_afterwards: bool
    note: str


class Payments:
    """Over the payment contract; without one, every method raises PaymentOff. Without the chain, ChainUnavailable."""

    def __init__(
        self,
        contract: PaymentContract | None,
        prices: PriceList | None,
        standings: Standings,
        chain_id: int,
        store: Store,
    ) -> None:
        self._contract = contract
        self._prices = prices
        self._store = store
        self._standings = standings
        self._chain_id = chain_id

    def ensure_on(self) -> None:
        """Raises PaymentOff, as every method does."""
        self._existing()

    async def balance(self, caller: Caller) -> Balance:
        """What the user has now, or, while the chain is away, what it said last."""
        if self._prices is None:
            raise PaymentOff
        terms = await self._prices.terms()
        standing = await self._standings.standing_of(caller)
        if standing.credit is None:
            raise ChainUnavailable
        return Balance(standing, standing.credit, terms, await Dues.of(self._store, caller.subject))

    async def deposit(self, caller: Caller, amount_wei: int) -> DepositOffer:
        """How to pay in so much."""
        contract, balance = self._existing(), await self.balance(caller)
        missing = max(0, balance.terms.pro_minimum - balance.credit.balance)
        return DepositOffer(
            contract=contract.address,
            chain_id=self._chain_id,
            abi=[FUNCTIONS["deposit"]],
            transaction={
                "to": contract.address,
                "data": call_data("deposit"),
                "value": hex(amount_wei),
                "chainId": hex(self._chain_id),
            },
            amount_wei=amount_wei,
            missing_for_pro_wei=missing,
            pro_afterwards=amount_wei >= missing,
            note=_note(balance.terms),
        )

    def _existing(self) -> PaymentContract:
        if self._contract is None:
            raise PaymentOff
        return self._contract


def _note(terms: Terms) -> str:
    minimum = plm(terms.pro_minimum)
    return (
        f"Pro lasts while at least {minimum} PLM are deposited: exactly {minimum} PLM fall to Free with the first"
        f" answer that is paid. Deposit more than {minimum} PLM to stay Pro."
    )
