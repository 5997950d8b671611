"""What a user has used and not paid: what of his deposit is left."""

from __future__ import annotations

import pytest

from core import redis_keys
from core.access.tiers import Source, Standing
from core.billing.dues import Dues
from core.billing.payments import Balance
from core.catalog import Tier
from core.chain.payment_contract import Credit, Terms
from core.store import Store
from tests.access.gates import ADA, BOB
from tests.billing.accounts import PRICE, Accounts, request_id, tx


def balance(deposited: int, dues: Dues, price: int = PRICE) -> Balance:
    """Of a user with so many wei in the contract."""
    credit = Credit(deposited, 0, 0, is_pro=True)
    return Balance(Standing(Tier.PRO, Source.FRESH, credit), credit, Terms(price, 100 * 10**18), dues)


@pytest.mark.asyncio
class TestDues:
    async def test_of_a_stranger_are_nothing(self, store: Store) -> None:
        assert await Dues.of(store, ADA.subject) == Dues(0, 0, in_debt=False)

    async def test_are_what_was_used_and_is_not_settled(self, store: Store, accounts: Accounts) -> None:
        accounts.charge(ADA.subject, request_id(1), 30, 12)
        accounts.settle(ADA.subject, 40, tx(1))
        accounts.redis.hset(redis_keys.credit(ADA.subject), mapping={"reserved": 7, "debt": "1", "inflight": 2})

        assert await Dues.of(store, ADA.subject) == Dues(2, 7, in_debt=True)
        assert await Dues.of(store, BOB.subject) == Dues(0, 0, in_debt=False)

    async def test_are_never_below_nothing_while_the_chain_knows_more_than_the_ledger(
        self, store: Store, accounts: Accounts
    ) -> None:
        accounts.settle(ADA.subject, 40, tx(1))

        assert (await Dues.of(store, ADA.subject)).outstanding == 0


class TestWhatIsLeft:
    def test_is_the_deposit_without_what_is_used_and_held(self) -> None:
        assert balance(10 * PRICE, Dues(2_000, 3_000, in_debt=False)).left == 5 * PRICE

    def test_is_rounded_once_as_a_debit_of_all_would_be(self) -> None:
        assert balance(100, Dues(1, 1, in_debt=False), price=1_500).left == 97

    def test_is_never_below_nothing(self) -> None:
        assert balance(PRICE, Dues(2_000, 0, in_debt=True)).left == 0
