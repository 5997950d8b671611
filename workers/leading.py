"""What only one process of the fleet does at a time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from core.ending import end
from core.lease import Lease
from workers.periodic import Job

EVERY_S = 1.0  # how often a process that does not lead asks for the lead

log = logging.getLogger(__name__)


async def lead(
    lease: Lease, jobs: Sequence[Job], taken: Callable[[], None] = lambda: None, *, leads: str = "leads"
) -> None:
    """
    Takes the lead and does the jobs until it is lost; returns at once when another process leads.

    Raises StoreUnavailable. Cancelled, it hands the lead on. `taken` is called once it leads; `leads` is the log's word
    for what it does.
    """
    if not await lease.take():
        return
    taken()
    log.info("process %s %s, as number %d", lease.holder, leads, lease.fence)
    tasks = [asyncio.create_task(job.run()) for job in jobs]
    try:
        await lease.hold()
        log.warning("process %s %s no more", lease.holder, leads)
    finally:
        await end(tasks)
        await lease.release()
