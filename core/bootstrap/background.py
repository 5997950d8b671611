"""The services of a background worker."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from conf.settings import Settings
from core.access.tier_cache import TierCache
from core.access.tier_events import TierEvents
from core.billing.reaper import Reaper
from core.bootstrap.derived import NODES, address_guard, read_catalog, required_redis_url, static_nodes
from core.bus import Bus, open_bus
from core.chain.chain import open_chain
from core.chain.payment_events import PaymentEvents
from core.clock import Clock, SystemClock
from core.lease import Lease
from core.metrics.counters import Counters
from core.metrics.node_wallets import NodeWallets
from core.metrics.reporter import MetricsReporter, OwnWallet
from core.nodes.ejection import Ejection
from core.nodes.fleet import Fleet
from core.nodes.fleet_traffic import FleetTraffic
from core.nodes.probe import NodeProber
from core.nodes.sources import NodeSource
from core.oracle.client import OracleClient, open_oracle
from core.oracle.listings import Sieve
from core.oracle.nodes import OracleNodes
from core.oracle.registration import Registration
from core.oracle.reports import KeyedReports, SignedReports
from core.store import Store, open_store
from core.wallet import Signer
from core.worker_id import new_worker_id

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BackgroundServices:
    """What the background worker works with."""

    store: Store
    bus: Bus
    lease: Lease
    fleet: Fleet
    prober: NodeProber
    oracle_nodes: OracleNodes | None
    reaper: Reaper
    tier_events: TierEvents | None  # None without a payment contract
    reporter: MetricsReporter | None  # None when the settings name no Oracle, or nothing to report with


@asynccontextmanager
async def open_background_services(settings: Settings) -> AsyncIterator[BackgroundServices]:
    """Opens them; whatever is away is found back later."""
    redis_url, clock = required_redis_url(settings), SystemClock()
    async with (
        open_store(redis_url) as store,
        open_bus(redis_url) as bus,
        _open_oracle(settings) as oracle,
        _open_tier_events(settings, TierCache(store, bus, clock)) as tier_events,
    ):
        lease = Lease(store, new_worker_id(), clock)
        fleet = Fleet(store, bus, lease, clock, FleetTraffic(clock, Ejection()))
        await fleet.start()
        oracle_nodes = None if oracle is None else _oracle_nodes(settings, oracle, store)
        yield BackgroundServices(
            store=store,
            bus=bus,
            lease=lease,
            fleet=fleet,
            prober=_prober(settings, oracle_nodes, fleet, clock),
            oracle_nodes=oracle_nodes,
            reaper=Reaper(store),
            tier_events=tier_events,
            reporter=None if oracle is None else _reporter(settings, oracle, Counters(store, lease), clock),
        )


def _prober(settings: Settings, oracle_nodes: OracleNodes | None, fleet: Fleet, clock: Clock) -> NodeProber:
    sources: list[NodeSource] = [static_nodes(settings), *([oracle_nodes] if oracle_nodes else [])]
    guard, secret = address_guard(settings), settings.node_api_secret
    return NodeProber(sources, read_catalog(settings), fleet, clock, guard=guard, secret=secret)


@asynccontextmanager
async def _open_oracle(settings: Settings) -> AsyncIterator[OracleClient | None]:
    if settings.oracle_api_url is None:
        yield None
        return
    async with open_oracle(settings.oracle_api_url) as oracle:
        yield oracle


def _oracle_nodes(settings: Settings, oracle: OracleClient, store: Store) -> OracleNodes:
    own_wallets = {Signer(key).address for key in (settings.private_key, settings.gateway_private_key) if key}
    sieve = Sieve(read_catalog(settings), address_guard(settings), own_wallets, settings.gateway_url)
    return OracleNodes(oracle, store, sieve)


def _reporter(settings: Settings, oracle: OracleClient, counters: Counters, clock: Clock) -> MetricsReporter | None:
    if settings.metrics_wallets == NODES and settings.oracle_api_key:
        keyed = KeyedReports(oracle, settings.oracle_api_key, clock)
        return MetricsReporter(counters, NodeWallets(counters, oracle, clock), keyed, clock)
    if settings.metrics_wallets != NODES and settings.private_key:
        signer = Signer(settings.private_key)
        registration = Registration(oracle, signer, settings.gateway_url, clock)
        signed = SignedReports(oracle, signer, clock)
        return MetricsReporter(counters, OwnWallet(signer.address), signed, clock, registration)
    missing = "ORACLE_API_KEY" if settings.metrics_wallets == NODES else "PRIVATE_KEY"
    log.warning("%s is not set: nothing is reported to the Oracle", missing)
    return None


@asynccontextmanager
async def _open_tier_events(settings: Settings, cache: TierCache) -> AsyncIterator[TierEvents | None]:
    if settings.inference_payment_address is None:
        yield None
        return
    async with open_chain(settings.chain_rpc_url, settings.chain_id) as chain:
        yield TierEvents(cache, PaymentEvents(chain, settings.inference_payment_address))
