"""Where Pro callers go: what is held of their deposit, and who is not served because his means are not known."""

from __future__ import annotations

from typing import cast

import pytest

from core.access.pay_desk import PayDesk
from core.access.tiers import UNKNOWN_STANDING, Source, Standing
from core.auth.caller import Caller
from core.billing.price_list import KEEP_S, PriceList
from core.catalog import Tier
from core.chain.payment_contract import Credit, PaymentContract, Terms
from core.errors import ChainUnavailable
from core.inference.requests import InferenceRequest
from core.store import Store
from tests.access.gates import ADA, CATALOG
from tests.billing.paying import charges_over
from tests.fakes.clock import FakeClock

RICH = Standing(Tier.PRO, Source.FRESH, Credit(10**9, 0, 0, is_pro=True))
MODEL = CATALOG.require("small")
ASKED = InferenceRequest(model="small", prompt="abcdefgh")


class Contract:
    """A payment contract whose chain may be away."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away

    async def terms(self) -> Terms:
        if self.away:
            raise ChainUnavailable
        return Terms(1000, 0)


class Known:
    """The same standing for everybody."""

    def __init__(self, standing: Standing) -> None:
        self._standing = standing

    async def tier_of(self, caller: Caller) -> Tier:
        return Tier.PRO

    async def standing_of(self, caller: Caller) -> Standing:
        return self._standing


def prices(contract: Contract, clock: FakeClock) -> PriceList:
    """The price list of a contract."""
    return PriceList(cast("PaymentContract", contract), clock)


def desk(store: Store, contract: Contract, clock: FakeClock, standing: Standing = RICH) -> PayDesk:
    """A desk in an empty store."""
    return PayDesk(Known(standing), prices(contract, clock), charges_over(store))


@pytest.mark.asyncio
class TestReserve:
    async def test_holds_the_prompt_and_the_longest_answer(self, store: Store, clock: FakeClock) -> None:
        charge = await desk(store, Contract(), clock).reserve("req_1", ADA, ASKED, MODEL, 8)

        assert (charge.reserved, charge.price, charge.balance) == (2 + 8, 1000, 10**9)

    async def test_holds_no_longer_prompt_than_the_model_reads(self, store: Store, clock: FakeClock) -> None:
        endless = InferenceRequest(model="small", prompt="가" * 200_000)

        charge = await desk(store, Contract(), clock).reserve("req_1", ADA, endless, MODEL, 8)

        assert charge.reserved == MODEL.context_length + 8

    async def test_serves_nobody_for_nothing_before_the_price_is_known(self, store: Store, clock: FakeClock) -> None:
        with pytest.raises(ChainUnavailable):
            await desk(store, Contract(away=True), clock).reserve("req_1", ADA, ASKED, MODEL, 8)

    async def test_serves_nobody_whose_deposit_is_not_known(self, store: Store, clock: FakeClock) -> None:
        with pytest.raises(ChainUnavailable):
            await desk(store, Contract(), clock, UNKNOWN_STANDING).reserve("req_1", ADA, ASKED, MODEL, 8)


@pytest.mark.asyncio
class TestPriceList:
    async def test_the_last_price_holds_while_the_chain_is_away(self, clock: FakeClock) -> None:
        contract = Contract()
        listed = prices(contract, clock)
        first = await listed.terms()
        contract.away = True
        clock.advance(KEEP_S)

        assert await listed.terms() == first
