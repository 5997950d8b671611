"""The services of a web worker."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from conf.settings import Settings
from core.access.tiers import Standings, TierResolver
from core.access.window import QuotaWindow
from core.auth.agent_signature import AgentSignatures
from core.auth.keys import OperatorKey, OracleKey
from core.auth.nonces import Nonces
from core.auth.sign_in import SignIn
from core.auth.tokens import TokenService
from core.auth.used_signatures import UsedSignatures
from core.billing.history import History
from core.billing.ledger import Ledger
from core.billing.payment_services import ChainAccess, PaymentServices, open_payments
from core.billing.payments import Payments
from core.billing.receipts import Receipts
from core.bootstrap.derived import read_catalog, required_redis_url
from core.bootstrap.network import Network, open_network
from core.bootstrap.serving import Serving, open_serving
from core.bootstrap.world import World
from core.bus import Bus, open_bus
from core.catalog import Catalog
from core.clock import SystemClock
from core.draining import Drain
from core.inference.answers import Answers
from core.inference.repeatable import RepeatableInference
from core.metrics.agent_reports import AgentReports
from core.nodes.registry import NodeRegistry
from core.nodes.relay.agents import Agents
from core.nodes.relay.handshake import Handshake
from core.readiness import Readiness
from core.store import open_store
from core.worker_id import new_worker_id


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
    history: History
    receipts: Receipts
    quota_window: QuotaWindow
    inference: RepeatableInference
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
            self.history,
            self.receipts,
            self.quota_window,
            self.inference,
            self.ledger,
            self.nodes,
            self.readiness,
            self.reports,
        ]


@asynccontextmanager
async def open_services(settings: Settings, tiers: TierResolver | None = None) -> AsyncIterator[Services]:
    """The services of one web worker. `tiers` replaces where tiers come from."""
    redis_url, clock = required_redis_url(settings), SystemClock()
    async with open_store(redis_url) as store, open_bus(redis_url) as bus:
        catalog, drain = read_catalog(settings), Drain(settings.shutdown_timeout_s)
        world = World(settings, new_worker_id(), store, bus, clock, catalog, drain)
        async with (
            open_network(world) as network,
            open_payments(_chain_access(settings), store, bus, clock) as money,
            open_serving(world, network, tiers or money.standings, money) as serving,
        ):
            yield _services(world, network, money, serving)


def _services(world: World, network: Network, money: PaymentServices, serving: Serving) -> Services:
    settings, store, clock = world.settings, world.store, world.clock
    tokens = TokenService(settings.jwt_secret, settings.jwt_secret_previous, settings.jwt_expiration_s, clock, store)
    used = UsedSignatures(store)
    return Services(
        settings=settings,
        worker_id=world.worker_id,
        bus=world.bus,
        catalog=world.catalog,
        tokens=tokens,
        sign_in=SignIn(Nonces(store), tokens, settings.chain_id, settings.cors_origins, money.contract_wallets),
        operator_key=OperatorKey(settings.openai_compat_api_key),
        oracle_key=OracleKey(settings.oracle_api_key),
        reports=serving.reports,
        agent_signatures=AgentSignatures(used, clock),
        tiers=money.standings,
        payments=money.payments,
        history=money.history,
        receipts=money.receipts,
        quota_window=QuotaWindow(store, limit=settings.free_tier_limit, window_s=settings.free_tier_window_s),
        inference=serving.inference,
        answers=serving.answers,
        ledger=serving.ledger,
        nodes=network.nodes,
        agents=network.agents,
        handshake=Handshake(used, clock, settings.relay_wallets),
        readiness=Readiness(store, network.nodes, world.drain, clock, money.chain),
        drain=world.drain,
    )


def _chain_access(settings: Settings) -> ChainAccess:
    return ChainAccess(
        rpc_url=settings.chain_rpc_url, chain_id=settings.chain_id, contract=settings.inference_payment_address
    )
