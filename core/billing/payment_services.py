"""All that hangs on the payment contract, opened together; or what stands in for it where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from core.access.chain_tiers import ChainTiers
from core.access.tier_cache import TierCache
from core.access.tiers import FreeForAll, Standings
from core.billing.history import History
from core.billing.payments import Payments
from core.billing.price_list import PriceList
from core.billing.receipt import Seal
from core.billing.receipt_book import ReceiptBook
from core.billing.receipts import Receipts
from core.bus import Bus
from core.chain.chain import Chain, open_chain
from core.chain.contract_wallets import ContractWallets
from core.chain.payment_contract import PaymentContract
from core.clock import Clock
from core.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainAccess:
    """Where the chain is; without a contract nothing of it is touched."""

    rpc_url: str
    chain_id: int
    contract: str | None  # lower-case address


@dataclass(frozen=True, slots=True)
class PaymentServices:
    """The part of a web worker's services that knows money."""

    chain: Chain | None
    standings: Standings
    prices: PriceList | None  # None without a payment contract: nobody pays
    payments: Payments
    history: History
    receipts: Receipts
    contract_wallets: ContractWallets | None


@asynccontextmanager
async def open_payments(access: ChainAccess, store: Store, bus: Bus, clock: Clock) -> AsyncIterator[PaymentServices]:
    """Opens them; a chain that is away is found back later."""
    if access.contract is None:
        free = FreeForAll()
        payments = Payments(None, None, free, access.chain_id, store)
        yield PaymentServices(None, free, None, payments, History(None), Receipts(None, bus), None)
        return
    receipts = Receipts(ReceiptBook(store, Seal(access.chain_id, access.contract)), bus)
    async with open_chain(access.rpc_url, access.chain_id) as chain:
        contract = PaymentContract(chain, access.contract)
        tiers = ChainTiers(TierCache(store, bus, clock), contract, bus, clock)
        await tiers.start()
        try:
            prices = PriceList(contract, clock)
            payments = Payments(contract, prices, tiers, access.chain_id, store)
            yield PaymentServices(chain, tiers, prices, payments, History(store), receipts, ContractWallets(chain))
        finally:
            await tiers.stop()
