"""A block of work that another task may stop."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self


class CancelScope:
    """
    `async with CancelScope() as scope`: after `scope.cancel()` the block's awaits are cancelled and it is left
    without an exception. One cancelled beforehand stops at its first await. To be entered once.
    """

    def __init__(self) -> None:
        self.cancelled = False
        self._timeout = asyncio.timeout(None)  # it knows how to cancel a block and nothing around it
        self._entered = False

    def cancel(self) -> None:
        """Stops the block; to be called from outside of it."""
        if not self.cancelled:
            self.cancelled = True
            if self._entered:
                self._timeout.reschedule(0)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._entered = True
        if self.cancelled:
            self._timeout.reschedule(0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._entered = False
        try:
            await self._timeout.__aexit__(kind, problem, trace)
        except TimeoutError:
            return True
        return False
