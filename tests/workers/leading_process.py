"""A process that tries to lead and, while it does, shares a snapshot that bears its name, as fast as it can."""

from __future__ import annotations

import asyncio
import sys

from core.clock import SystemClock
from core.lease import Lease
from core.nodes import snapshot
from core.nodes.node import Node
from core.nodes.snapshot import Snapshot
from core.store import open_store
from workers.leading import lead
from workers.periodic import Periodic

TTL_S = 0.6


async def main(redis_url: str, name: str) -> None:
    """Goes on until it is killed."""
    async with open_store(redis_url, timeout_s=10) as store:
        lease = Lease(store, name, SystemClock(), ttl_s=TTL_S)

        async def act() -> None:
            await snapshot.write(store, Snapshot([Node(name)]), lease.fence)

        job = Periodic("acting", act, 0.005)
        await Periodic("asking for the lead", lambda: lead(lease, [job]), 0.05).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
