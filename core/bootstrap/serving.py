"""A web worker's way from a request to its answer: the gate, the service, the count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from conf.settings import Settings
from core.access.admission import Admission, Limits
from core.access.pay_desk import PayDesk
from core.access.tiers import TierResolver
from core.billing.charges import Charges
from core.billing.commits import Commits
from core.billing.ledger import Ledger
from core.billing.payment_services import PaymentServices
from core.billing.spool import Spool
from core.bootstrap.derived import NODES
from core.bootstrap.network import Network
from core.bootstrap.world import World
from core.errors import ShuttingDown
from core.inference.answers import Answers, open_answers
from core.inference.idempotency import IdempotencyKeys
from core.inference.repeatable import RepeatableInference
from core.inference.service import InferenceService
from core.metrics.agent_reports import AgentReports

LEASE_MARGIN_S = 60  # a request that is this long overdue has lost its worker


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves requests, and what is known of those who serve elsewhere."""

    inference: RepeatableInference
    answers: Answers
    ledger: Ledger
    reports: AgentReports


@asynccontextmanager
async def open_serving(
    world: World, network: Network, tiers: TierResolver, money: PaymentServices
) -> AsyncIterator[Serving]:
    """Opens it; what is still to be counted at the end is counted."""
    settings = world.settings
    async with AsyncExitStack() as stack:
        charges = Charges(world.store, most_unsettled=settings.max_unsettled_tokens, lease_s=_lease_s(settings))
        commits = _commits(world)
        ledger = _ledger(world, charges, commits)
        ledger.start()
        stack.push_async_callback(ledger.aclose)
        pay_desk = None if money.prices is None else PayDesk(money.standings, money.prices, charges)
        gate = _admission(world, network, tiers, pay_desk)
        patience_s = settings.stream_heartbeat_s
        inference = InferenceService(gate, network.router, ledger, world.clock, patience_s=patience_s)
        opening = open_answers(inference, world.bus, world.worker_id, settings.resume_window_s)
        answers = await stack.enter_async_context(opening)
        world.drain.add_interrupt(partial(answers.interrupt, ShuttingDown()))
        reports = AgentReports(world.store, world.bus, world.catalog, world.clock)
        await reports.start()
        stack.push_async_callback(reports.stop)
        keys = IdempotencyKeys(world.store, commits, lease_s=_lease_s(settings))
        keys.follow(world.bus)
        stack.push_async_callback(keys.aclose)
        yield Serving(RepeatableInference(inference, keys), answers, ledger, reports)


def _commits(world: World) -> Commits:
    commits = Commits(world.store, Spool(world.settings.data_dir / "spool", world.worker_id))
    commits.follow(world.bus)
    return commits


def _ledger(world: World, charges: Charges, commits: Commits) -> Ledger:
    per_node_wallet = world.settings.metrics_wallets == NODES
    return Ledger(world.store, per_node_wallet=per_node_wallet, charges=charges, commits=commits)


def _lease_s(settings: Settings) -> int:
    return settings.node_total_timeout_s + LEASE_MARGIN_S


def _admission(world: World, network: Network, tiers: TierResolver, pay_desk: PayDesk | None) -> Admission:
    settings = world.settings
    limits = Limits(
        free_requests=settings.free_tier_limit,
        window_s=settings.free_tier_window_s,
        free_max_tokens=settings.free_tier_max_tokens,
        pro_max_tokens=settings.pro_tier_max_tokens,
        lease_s=_lease_s(settings),
    )
    return Admission(
        world.store,
        tiers,
        world.catalog,
        limits,
        world.clock,
        is_served=lambda model: network.nodes.count(model) > 0,
        pay_desk=pay_desk,
    )
