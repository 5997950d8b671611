"""Scripted nodes, and a router over them."""

from __future__ import annotations

import asyncio
from typing import Any

from core.clock import SystemClock
from core.inference.requests import Message
from core.nodes import snapshot
from core.nodes.address_guard import AddressGuard
from core.nodes.attempt import Timeouts
from core.nodes.ejection import Ejection
from core.nodes.node import Node, NodeKind
from core.nodes.registry import NodeRegistry
from core.nodes.router import NodeRouter
from core.nodes.snapshot import Snapshot
from core.nodes.transport.pool import ConnectionPool
from core.nodes.work import Work
from core.store import Store
from tests.fakes.node_script import Fault
from tests.fakes.node_server import NodeServer

MODEL = "bigscience/bloom-560m"
PATIENT = Timeouts(first_token_s=20, token_s=20, total_s=60)
QUICK = Timeouts(first_token_s=1, token_s=1, total_s=10)  # where a node is silent: each such test takes that long
SILENT = (Fault.STALL_FIRST, Fault.STALL_BETWEEN)


def work(**changes: Any) -> Work:
    """A chat of one message."""
    usual: dict[str, Any] = {
        "model": MODEL,
        "messages": (Message("user", "Hi"),),
        "prompt": "### USER:\nHi\n\n### ASSISTANT:\n",
        "max_tokens": 64,
        "temperature": 0.7,
        "top_p": 0.9,
        "stop": (),
        "inputs_stop": (),
    }
    return Work(**{**usual, **changes})


class Network:
    """Nodes that run, and a router that knows them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.registry = NodeRegistry(store, SystemClock(), Ejection(after=2, base_s=30))
        self.pool = ConnectionPool(20.0, guard=AddressGuard(allow_private=True))
        self.servers: list[NodeServer] = []

    async def node(self, **script: Any) -> NodeServer:
        """Starts a node."""
        server = NodeServer(**script)
        await server.start()
        self.servers.append(server)
        return server

    async def router(self, *servers: NodeServer, timeouts: Timeouts | None = None) -> NodeRouter:
        """A router for these nodes, all of them online. It waits long, unless one of them will not answer."""
        usual = QUICK if any(server.fault in SILENT for server in servers) else PATIENT
        router = NodeRouter(self.registry, self.pool, timeouts or usual)
        await self.share(*[known(server) for server in servers])
        return router

    async def share(self, *nodes: Node) -> None:
        """Makes the registry know these nodes."""
        await snapshot.write(self.store, Snapshot(list(nodes)), fence=0)
        await self.registry.refresh()

    async def close(self) -> None:
        """Ends everything, and makes sure that nothing was left open or running."""
        for server in self.servers:
            await server.idle()
        await self.pool.aclose()
        async with asyncio.timeout(20):
            while any(server.connections for server in self.servers):
                await asyncio.sleep(0.001)
        for server in self.servers:
            await server.stop()
        assert self.pool.connections == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}


def known(server: NodeServer, **changes: Any) -> Node:
    """A server as a probe has found it."""
    kind = NodeKind(server.kind)
    usual: dict[str, Any] = {"kind": kind, "models": {MODEL: server.model}, "streams": kind != NodeKind.PETALS}
    return Node(server.url, online=True, **{**usual, **changes})
