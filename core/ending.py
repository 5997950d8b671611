"""The end of tasks that run until they are cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

AGAIN_S = 0.05


async def end(tasks: Collection[asyncio.Task[Any]]) -> None:
    """
    Cancels the tasks and waits until they have ended, however that went.

    They are cancelled again and again: redis-py loses a cancellation that comes while it connects or reads.
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=AGAIN_S)
    await asyncio.gather(*tasks, return_exceptions=True)
