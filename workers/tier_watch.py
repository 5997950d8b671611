"""Hears what happens at the payment contract, so that a deposit counts within two blocks."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from core.access.tier_events import TierEvents
from workers.periodic import Lasting, Periodic

POLL_S = 2.0  # without a subscription: less than one block
SURE_S = 30.0  # with one, which may have missed something
RECONNECT_S = 5.0

Subscribe = Callable[[], AbstractAsyncContextManager[AsyncIterator[str]]]

log = logging.getLogger(__name__)


class TierWatch:
    """
    A subscription as long as there is one, and the chain's own record: often without it, else now and then.

    What happens while no subscription stands, or nobody leads, is found in the record afterwards.
    """

    def __init__(self, events: TierEvents, subscribe: Subscribe) -> None:
        self._events = events
        self._subscribe = subscribe
        self._subscribed = False
        self._caught_up_at = -SURE_S

    def jobs(self) -> list[Periodic]:
        """What it does all the time; each job ends when it is cancelled, so none hangs on another's end."""
        return [
            Periodic("reading the payment contract's events", self._catch_up, POLL_S),
            Lasting("the subscription to the payment contract", self._listen, RECONNECT_S),
        ]

    async def _catch_up(self) -> None:
        if self._subscribed and time.monotonic() < self._caught_up_at + SURE_S:
            return
        await self._events.catch_up()
        self._caught_up_at = time.monotonic()

    async def _listen(self, works: Callable[[], None]) -> None:
        """One subscription, from its beginning to its loss."""
        async with self._subscribe() as users:
            works()
            log.info("subscribed to the payment contract")
            self._subscribed, self._caught_up_at = True, -SURE_S
            try:
                async for user in users:
                    await self._events.heard(user)
            finally:
                self._subscribed = False
