"""The Oracle's totals equal what was served, whatever is killed, lost or restarted on the way, and wherever."""

from __future__ import annotations

import asyncio
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.errors import StoreUnavailable
from core.oracle.client import OracleUnavailable
from core.store import Store, open_store
from tests.fakes.clock import FakeClock
from tests.fakes.redis_server import RedisServer
from tests.metrics.network import SIGNER, Killed, Wire, oracle_for, reporter, serve

STEPS = ("report_begin", "report_done")
FAULTS = (
    "killed before a step",
    "killed after a step",
    "killed before the Oracle got it",
    "killed after the Oracle got it",
    "lost on the way there",
    "lost on the way back",
    "refused by the database",
    "Redis restarted",
    "two leaders",
    "led by another",
)


class BrittleStore(Store):
    """The store of a process that is killed just before or just after a script has run."""

    def __init__(self, inner: Store, script: str = "", *, after: bool = False) -> None:
        self._inner = inner
        self._script = script
        self._after = after

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        if script == self._script and not self._after:
            raise Killed
        result = await self._inner.run(script, keys, args)
        if script == self._script:
            raise Killed
        return result


class Life:
    """A fleet that serves and reports; `suffer` does one of FAULTS to it."""

    def __init__(self, store: Store, redis: RedisServer, seed: int) -> None:
        self.store = store
        self.redis = redis
        self.chance = random.Random(seed)
        self.clock = FakeClock()
        self.oracle = oracle_for(self.clock)
        self.wire = Wire(self.oracle)
        self.tokens = self.answers = 0
        self.fence = 1
        self.suffered: Counter[str] = Counter()

    async def serve(self) -> None:
        for _ in range(self.chance.randrange(4)):
            tokens = self.chance.randrange(60)
            await serve(self.store, tokens)
            self.tokens += tokens
            self.answers += 1

    async def report(self, store: Store | None = None) -> None:
        """One turn of a process that may not live to its end."""
        most = 250  # so that the largest figure is met again and again
        with suppress(Killed, StoreUnavailable):
            await reporter(store or self.store, self.wire, self.clock, fence=self.fence, most=most).report()

    async def suffer(self) -> None:
        fault = self.chance.choice(FAULTS)
        self.suffered[fault] += 1
        if fault.endswith("a step"):
            await self.report(BrittleStore(self.store, self.chance.choice(STEPS), after="after" in fault))
        elif fault.startswith(("killed", "lost")):
            await self.report_with(
                Killed() if fault.startswith("killed") else OracleUnavailable("it did not answer in time"), fault
            )
        elif fault == "refused by the database":
            self.oracle.failing = True
            await self.report()
            self.oracle.failing = False
        elif fault == "Redis restarted":
            await asyncio.to_thread(self.redis.stop)
            await self.report()
            await asyncio.to_thread(self.redis.start)
        elif fault == "two leaders":
            await asyncio.gather(self.report(), self.report(), self.report())
        else:
            self.fence += 1

    async def report_with(self, end: BaseException, fault: str) -> None:
        countdown = self.chance.randrange(3)  # which message of this turn it is

        def strike() -> None:
            nonlocal countdown
            countdown -= 1
            if countdown < 0:
                raise end

        if fault.endswith(("back", "after the Oracle got it")):
            self.wire.after = strike
        else:
            self.wire.before = strike
        await self.report()
        self.wire.before = self.wire.after = lambda: None

    async def live(self, faults: int) -> None:
        for _ in range(faults):
            await self.serve()
            await self.suffer()
            self.clock.advance(self.chance.choice([1, 7, 60, 61, 3600]))
            if self.chance.random() < 0.3:
                await self.report()
        for _ in range(20):  # in peace
            self.clock.advance(60)
            await self.report()


async def live(faults: int, seed: int) -> Life:
    """A life over a Redis of its own."""
    with tempfile.TemporaryDirectory(prefix="plm-") as folder:
        redis = RedisServer(Path(folder))
        redis.start()
        try:
            async with open_store(redis.url, timeout_s=5) as store:
                life = Life(store, redis, seed)
                await life.live(faults)
                return life
        finally:
            redis.stop()


@pytest.mark.asyncio
class TestTotals:
    async def test_are_exact_after_two_hundred_faults(self) -> None:
        life = await live(200, seed=1)

        assert life.oracle.booked(SIGNER.address) == (life.tokens, life.answers)
        assert life.tokens > 250 * 10
        assert life.oracle.untrusted() == 0
        assert min(life.suffered[fault] for fault in FAULTS) >= 5

    @pytest.mark.long
    @pytest.mark.parametrize("seed", range(100, 110))
    async def test_are_exact_after_a_thousand_faults(self, seed: int) -> None:
        life = await live(1000, seed)

        assert life.oracle.booked(SIGNER.address) == (life.tokens, life.answers)
        assert life.oracle.untrusted() == 0
