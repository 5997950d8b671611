"""The end of tasks that run until they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

AGAIN_S = 0.05


async def end(tasks: Collection[asyncio.Task[None]]) -> None:
    """
    Cancels the tasks and waits until they have ended, however that went.

    They are cancelled again and again: redis-py loses a cancellation that comes while it connects.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
