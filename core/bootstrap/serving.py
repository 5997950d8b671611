"""A web worker's way from a request to its answer: the gate, the service, the count."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from core.access.admission import Admission, Limits
from core.access.tiers import TierResolver
from core.billing.ledger import Ledger
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
async def open_serving(world: World, network: Network, tiers: TierResolver) -> AsyncIterator[Serving]:
    """Opens it; what is still to be counted at the end is counted."""
    settings = world.settings
    async with AsyncExitStack() as stack:
        ledger = Ledger(world.store, per_node_wallet=settings.metrics_wallets == NODES)
        stack.push_async_callback(ledger.aclose)
        gate = _admission(world, network, tiers)
        patience_s = settings.stream_heartbeat_s
        inference = InferenceService(gate, network.router, ledger, world.clock, patience_s=patience_s)
        opening = open_answers(inference, world.bus, world.worker_id, settings.resume_window_s)
        answers = await stack.enter_async_context(opening)
        world.drain.add_interrupt(partial(answers.interrupt, ShuttingDown()))
        reports = AgentReports(world.store, world.bus, world.catalog, world.clock)
        await reports.start()
        stack.push_async_callback(reports.stop)
        keys = IdempotencyKeys(world.store, lease_s=settings.node_total_timeout_s + LEASE_MARGIN_S)
        yield Serving(RepeatableInference(inference, keys), answers, ledger, reports)


def _admission(world: World, network: Network, tiers: TierResolver) -> Admission:
    settings = world.settings
    limits = Limits(
        free_requests=settings.free_tier_limit,
        window_s=settings.free_tier_window_s,
        free_max_tokens=settings.free_tier_max_tokens,
        pro_max_tokens=settings.pro_tier_max_tokens,
    )
    return Admission(
        world.store,
        tiers,
        world.catalog,
        limits,
        settings.node_total_timeout_s + LEASE_MARGIN_S,
        world.clock,
        is_served=lambda model: network.nodes.count(model) > 0,
    )
