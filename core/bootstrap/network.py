"""A web worker's way to the nodes: what is known of them, and how they are reached."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from core.bootstrap.derived import address_guard
from core.bootstrap.world import World
from core.errors import ShuttingDown
from core.nodes.attempt import Timeouts
from core.nodes.ejection import Ejection
from core.nodes.registry import NodeRegistry
from core.nodes.relay.agents import Agents
from core.nodes.relay.directory import AgentDirectory
from core.nodes.relay.nodes import nodes_of
from core.nodes.relay.transport import SCHEME, RelayTransport
from core.nodes.router import NodeRouter
from core.nodes.traffic_sender import TrafficSender
from core.nodes.transport.pool import ConnectionPool
from core.nodes.transport.transports import TransportByScheme


@dataclass(frozen=True, slots=True)
class Network:
    """The nodes."""

    nodes: NodeRegistry
    agents: Agents
    router: NodeRouter


@asynccontextmanager
async def open_network(world: World) -> AsyncIterator[Network]:
    """Follows the nodes, connects to them, and lets agents connect."""
    async with AsyncExitStack() as stack:
        nodes = await _nodes(stack, world)
        pool, relay, agents = _pool(stack, world), *await _relay(stack, world, nodes)
        yield Network(nodes, agents, NodeRouter(nodes, TransportByScheme(pool, {SCHEME: relay}), _timeouts(world)))


async def _nodes(stack: AsyncExitStack, world: World) -> NodeRegistry:
    nodes = NodeRegistry(world.store, world.clock, Ejection())
    await nodes.start(world.bus)
    stack.push_async_callback(nodes.stop)
    sender = TrafficSender(nodes.flights, world.bus, world.worker_id)
    sender.start()
    stack.push_async_callback(sender.stop)
    return nodes


def _pool(stack: AsyncExitStack, world: World) -> ConnectionPool:
    settings = world.settings
    guard = address_guard(settings)
    pool = ConnectionPool(settings.node_connect_timeout_s, guard=guard, secret=settings.node_api_secret)
    stack.push_async_callback(pool.aclose)
    world.drain.add_interrupt(partial(pool.interrupt, ShuttingDown()))
    return pool


async def _relay(stack: AsyncExitStack, world: World, nodes: NodeRegistry) -> tuple[RelayTransport, Agents]:
    agents = Agents(world.worker_id, AgentDirectory(world.store), world.bus)
    agents.when_changed(lambda: nodes.set_agents(nodes_of(agents.entries(), world.catalog, world.clock.now())))
    relay = RelayTransport(world.worker_id, agents, world.bus)
    world.drain.add_interrupt(partial(relay.interrupt, ShuttingDown()))
    await relay.start()
    await agents.start()
    world.drain.when_begun(agents.retire)
    stack.push_async_callback(agents.stop)
    return relay, agents


def _timeouts(world: World) -> Timeouts:
    settings = world.settings
    return Timeouts(
        first_token_s=settings.node_first_token_timeout_s,
        token_s=settings.node_token_timeout_s,
        total_s=settings.node_total_timeout_s,
    )
