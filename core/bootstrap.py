"""Who gets what: opens the outside world, builds the services over it, closes all of it in reverse."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from conf.settings import Settings
from core.access.admission import Admission, Limits
from core.access.tier_cache import TierCache
from core.access.tier_events import TierEvents
from core.access.tiers import Standings, TierResolver
from core.access.window import QuotaWindow
from core.auth.agent_signature import AgentSignatures
from core.auth.keys import OperatorKey, OracleKey
from core.auth.nonces import Nonces
from core.auth.sign_in import SignIn
from core.auth.tokens import TokenService
from core.auth.used_signatures import UsedSignatures
from core.billing.ledger import Ledger
from core.billing.payment_services import ChainAccess, open_payments
from core.billing.payments import Payments
from core.billing.reaper import Reaper
from core.bus import Bus, open_bus
from core.catalog import Catalog
from core.chain.chain import open_chain
from core.chain.payment_events import PaymentEvents
from core.clock import Clock, SystemClock
from core.draining import Drain
from core.errors import ShuttingDown
from core.inference.answers import Answers, open_answers
from core.inference.service import InferenceService
from core.lease import Lease
from core.metrics.agent_reports import AgentReports
from core.metrics.counters import Counters
from core.metrics.node_wallets import NodeWallets
from core.metrics.reporter import MetricsReporter, OwnWallet
from core.nodes.address_guard import AddressGuard
from core.nodes.attempt import Timeouts
from core.nodes.ejection import Ejection
from core.nodes.fleet import Fleet
from core.nodes.fleet_traffic import FleetTraffic
from core.nodes.probe import NodeProber
from core.nodes.registry import NodeRegistry
from core.nodes.relay.agents import Agents
from core.nodes.relay.directory import AgentDirectory
from core.nodes.relay.handshake import Handshake
from core.nodes.relay.nodes import nodes_of
from core.nodes.relay.transport import SCHEME, RelayTransport
from core.nodes.router import NodeRouter
from core.nodes.sources import NodeSource, StaticNodes
from core.nodes.traffic_sender import TrafficSender
from core.nodes.transport.pool import ConnectionPool
from core.nodes.transport.transports import TransportByScheme
from core.oracle.client import open_oracle
from core.oracle.listings import Sieve
from core.oracle.nodes import OracleNodes
from core.oracle.registration import Registration
from core.oracle.reports import KeyedReports, SignedReports
from core.readiness import Readiness
from core.store import Store, open_store
from core.wallet import Signer
from core.worker_id import new_worker_id

DEFAULT_MODELS = Path(__file__).parent.parent / "conf" / "models.toml"
NODES = "nodes"  # METRICS_WALLETS: what was served is reported for the nodes' wallets
LEASE_MARGIN_S = 60  # a request that is this long overdue has lost its worker

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Services:
    """What a web worker serves with."""

    settings: Settings
    worker_id: str
    bus: Bus
    catalog: Catalog
    tokens: TokenService
    sign_in: SignIn
    operator_key: OperatorKey
    oracle_key: OracleKey
    reports: AgentReports
    agent_signatures: AgentSignatures
    tiers: Standings
    payments: Payments
    quota_window: QuotaWindow
    inference: InferenceService
    answers: Answers
    ledger: Ledger
    nodes: NodeRegistry
    agents: Agents
    handshake: Handshake
    readiness: Readiness
    drain: Drain

    def injectable(self) -> list[object]:
        """The services that handlers may ask for by type."""
        return [
            self.settings,
            self.catalog,
            self.tokens,
            self.sign_in,
            self.payments,
            self.quota_window,
            self.inference,
            self.ledger,
            self.nodes,
            self.readiness,
            self.reports,
        ]


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
async def open_services(settings: Settings, tiers: TierResolver | None = None) -> AsyncIterator[Services]:
    """The services of one web worker. `tiers` replaces where tiers come from."""
    clock, catalog, drain = SystemClock(), read_catalog(settings), Drain(settings.shutdown_timeout_s)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(open_store(required_redis_url(settings)))
        bus = await stack.enter_async_context(open_bus(required_redis_url(settings)))
        money = await stack.enter_async_context(open_payments(_chain_access(settings), store, bus, clock))
        nodes = NodeRegistry(store, clock, Ejection())
        await nodes.start(bus)
        stack.push_async_callback(nodes.stop)
        pool = ConnectionPool(settings.node_connect_timeout_s, guard=_guard(settings), secret=settings.node_api_secret)
        stack.push_async_callback(pool.aclose)
        drain.add_interrupt(partial(pool.interrupt, ShuttingDown()))
        worker_id, used = new_worker_id(), UsedSignatures(store)
        sender = TrafficSender(nodes.flights, bus, worker_id)
        sender.start()
        stack.push_async_callback(sender.stop)
        agents = Agents(worker_id, AgentDirectory(store), bus)
        agents.when_changed(lambda: nodes.set_agents(nodes_of(agents.entries(), catalog, clock.now())))
        relay = RelayTransport(worker_id, agents, bus)
        drain.add_interrupt(partial(relay.interrupt, ShuttingDown()))
        await relay.start()
        await agents.start()
        drain.when_begun(agents.retire)
        stack.push_async_callback(agents.stop)
        reports = AgentReports(store, bus, catalog, clock)
        await reports.start()
        stack.push_async_callback(reports.stop)
        tokens = TokenService(
            settings.jwt_secret, settings.jwt_secret_previous, settings.jwt_expiration_s, clock, store
        )
        admission = Admission(
            store,
            tiers or money.standings,
            catalog,
            _limits(settings),
            _lease_s(settings),
            clock,
            is_served=lambda model: nodes.count(model) > 0,
        )
        ledger = Ledger(store, per_node_wallet=settings.metrics_wallets == NODES)
        stack.push_async_callback(ledger.aclose)
        router = NodeRouter(nodes, TransportByScheme(pool, {SCHEME: relay}), _timeouts(settings))
        inference = InferenceService(admission, router, ledger, clock, patience_s=settings.stream_heartbeat_s)
        answers = await stack.enter_async_context(open_answers(inference, bus, worker_id, settings.resume_window_s))
        drain.add_interrupt(partial(answers.interrupt, ShuttingDown()))
        yield Services(
            settings=settings,
            worker_id=worker_id,
            bus=bus,
            catalog=catalog,
            tokens=tokens,
            sign_in=SignIn(Nonces(store), tokens, settings.chain_id, settings.cors_origins, money.contract_wallets),
            operator_key=OperatorKey(settings.openai_compat_api_key),
            oracle_key=OracleKey(settings.oracle_api_key),
            reports=reports,
            agent_signatures=AgentSignatures(used, clock),
            tiers=money.standings,
            payments=money.payments,
            quota_window=QuotaWindow(store, limit=settings.free_tier_limit, window_s=settings.free_tier_window_s),
            inference=inference,
            answers=answers,
            ledger=ledger,
            nodes=nodes,
            agents=agents,
            handshake=Handshake(used, clock, settings.relay_wallets),
            readiness=Readiness(store, nodes, drain, clock, money.chain),
            drain=drain,
        )


@asynccontextmanager
async def open_background_services(settings: Settings) -> AsyncIterator[BackgroundServices]:
    """The services of the background worker."""
    redis_url, clock = required_redis_url(settings), SystemClock()
    async with open_store(redis_url) as store, open_bus(redis_url) as bus:
        lease = Lease(store, new_worker_id(), clock)
        fleet = Fleet(store, bus, lease, clock, FleetTraffic(clock, Ejection()))
        await fleet.start()
        async with (
            _open_oracle_nodes(settings, store) as oracle_nodes,
            _open_reporter(settings, store, lease, clock) as reporter,
            _open_tier_events(settings, TierCache(store, bus, clock)) as tier_events,
        ):
            sources: list[NodeSource] = [_static_nodes(settings), *([oracle_nodes] if oracle_nodes else [])]
            prober = NodeProber(
                sources, read_catalog(settings), fleet, clock, guard=_guard(settings), secret=settings.node_api_secret
            )
            yield BackgroundServices(
                store=store,
                bus=bus,
                lease=lease,
                fleet=fleet,
                prober=prober,
                oracle_nodes=oracle_nodes,
                reaper=Reaper(store),
                tier_events=tier_events,
                reporter=reporter,
            )


@asynccontextmanager
async def _open_oracle_nodes(settings: Settings, store: Store) -> AsyncIterator[OracleNodes | None]:
    if settings.oracle_api_url is None:
        yield None
        return
    own_wallets = {Signer(key).address for key in (settings.private_key, settings.gateway_private_key) if key}
    async with open_oracle(settings.oracle_api_url) as oracle:
        sieve = Sieve(read_catalog(settings), _guard(settings), own_wallets, settings.gateway_url)
        yield OracleNodes(oracle, store, sieve)


@asynccontextmanager
async def _open_reporter(
    settings: Settings, store: Store, lease: Lease, clock: Clock
) -> AsyncIterator[MetricsReporter | None]:
    if settings.oracle_api_url is None:
        yield None
        return
    async with open_oracle(settings.oracle_api_url) as oracle:
        counters = Counters(store, lease)
        if settings.metrics_wallets == NODES and settings.oracle_api_key:
            keyed = KeyedReports(oracle, settings.oracle_api_key, clock)
            yield MetricsReporter(counters, NodeWallets(counters, oracle, clock), keyed, clock)
        elif settings.metrics_wallets != NODES and settings.private_key:
            signer = Signer(settings.private_key)
            signed = SignedReports(oracle, signer, clock)
            registration = Registration(oracle, signer, settings.gateway_url, clock)
            yield MetricsReporter(counters, OwnWallet(signer.address), signed, clock, registration)
        else:
            missing = "ORACLE_API_KEY" if settings.metrics_wallets == NODES else "PRIVATE_KEY"
            log.warning("%s is not set: nothing is reported to the Oracle", missing)
            yield None


@asynccontextmanager
async def _open_tier_events(settings: Settings, cache: TierCache) -> AsyncIterator[TierEvents | None]:
    if settings.inference_payment_address is None:
        yield None
        return
    async with open_chain(settings.chain_rpc_url, settings.chain_id) as chain:
        yield TierEvents(cache, PaymentEvents(chain, settings.inference_payment_address))


def _chain_access(settings: Settings) -> ChainAccess:
    return ChainAccess(
        rpc_url=settings.chain_rpc_url, chain_id=settings.chain_id, contract=settings.inference_payment_address
    )


def read_catalog(settings: Settings) -> Catalog:
    """The catalogue that the settings name. Raises InvalidCatalog."""
    return Catalog.from_file(settings.models_file or DEFAULT_MODELS)


def required_redis_url(settings: Settings) -> str:
    """Where Redis is; a process that was started by hand without REDIS_URL has none."""
    if settings.redis_url is None:
        raise RuntimeError("REDIS_URL is not set and this process does not embed a Redis")
    return settings.redis_url


def _static_nodes(settings: Settings) -> StaticNodes:
    return StaticNodes((*settings.node_urls, *filter(None, [settings.petals_api_url])))


def _guard(settings: Settings) -> AddressGuard:
    return AddressGuard(_static_nodes(settings).urls, allow_private=settings.allow_private_nodes)


def _limits(settings: Settings) -> Limits:
    return Limits(
        free_requests=settings.free_tier_limit,
        window_s=settings.free_tier_window_s,
        free_max_tokens=settings.free_tier_max_tokens,
        pro_max_tokens=settings.pro_tier_max_tokens,
    )


def _lease_s(settings: Settings) -> int:
    return settings.node_total_timeout_s + LEASE_MARGIN_S


def _timeouts(settings: Settings) -> Timeouts:
    return Timeouts(
        first_token_s=settings.node_first_token_timeout_s,
        token_s=settings.node_token_timeout_s,
        total_s=settings.node_total_timeout_s,
    )
