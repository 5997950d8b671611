"""The services of a settler: the one process that needs the key of the contract's gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from conf.settings import Settings
from core import redis_keys
from core.access.tier_cache import TierCache
from core.billing.receipt import Seal
from core.billing.receipt_book import ReceiptBook
from core.billing.receipt_signing import ReceiptSigner
from core.bootstrap.derived import required_redis_url
from core.bus import Bus, open_bus
from core.chain.chain import open_chain
from core.chain.payment_contract import PaymentContract
from core.clock import SystemClock
from core.lease import Lease
from core.settlement.fees import GWEI
from core.settlement.keyless import Keyless
from core.settlement.rules import Rules
from core.settlement.settler import Settler, World
from core.steps import Step, unwatched
from core.store import Store, open_store
from core.wallet import Signer
from core.worker_id import new_worker_id

PATIENCE_S = 5.0  # nobody waits for the settler, so it can wait for Redis
LEASE = (redis_keys.SETTLEMENT_LEADER, redis_keys.SETTLEMENT_FENCE)


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settler, the lease that says whether it is its turn among several, and the signer of receipts."""

    settler: Settler | Keyless
    lease: Lease
    receipts: ReceiptSigner | None = None  # None without a key


@asynccontextmanager
async def open_settlement(settings: Settings, at: Step = unwatched) -> AsyncIterator[Settlement | None]:
    """Opens it; None without a payment contract. Whatever is away is found back later."""
    if settings.inference_payment_address is None:
        yield None
        return
    async with open_store(required_redis_url(settings), PATIENCE_S) as store:
        lease = Lease(store, new_worker_id(), SystemClock(), keys=LEASE)
        if settings.gateway_private_key is None:
            yield Settlement(Keyless(store, _rules(settings)), lease)
            return
        signer, contract = Signer(settings.gateway_private_key), settings.inference_payment_address
        async with open_bus(required_redis_url(settings)) as bus, open_world(settings, store, bus, signer) as world:
            book = ReceiptBook(store, Seal(settings.chain_id, contract))
            yield Settlement(Settler(world, _rules(settings), at), lease, ReceiptSigner(book, bus, signer))


@asynccontextmanager
async def open_world(settings: Settings, store: Store, bus: Bus, signer: Signer) -> AsyncIterator[World]:
    """What the settler works with. The settings must name a contract."""
    clock = SystemClock()
    async with open_chain(settings.chain_rpc_url, settings.chain_id) as chain:
        yield World(
            store=store,
            chain=chain,
            chain_id=settings.chain_id,
            contract=PaymentContract(chain, settings.inference_payment_address or ""),
            signer=signer,
            tiers=TierCache(store, bus, clock),
            clock=clock,
        )


def _rules(settings: Settings) -> Rules:
    return Rules(
        interval_s=settings.settlement_interval_s,
        exposure_tokens=settings.max_unsettled_tokens,
        confirmations=settings.settlement_confirmations,
        max_fee=settings.settlement_max_fee_gwei * GWEI,
    )
