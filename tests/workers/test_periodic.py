"""Jobs of the clock."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

import pytest

from workers.periodic import Lasting, Periodic


class Job:
    """Fails as long as it is told to."""

    def __init__(self) -> None:
        self.turns = 0
        self.fails = False

    async def __call__(self) -> None:
        self.turns += 1
        if self.fails:
            raise ConnectionError("away")


async def run_for(periodic: Periodic, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(periodic.run(), seconds)


@pytest.mark.asyncio
class TestPeriodic:
    async def test_does_its_job_at_once(self) -> None:
        job = Job()

        await run_for(Periodic("a job", job, every_s=3600), 0.02)

        assert job.turns == 1

    async def test_does_it_again_and_again(self) -> None:
        job = Job()

        await run_for(Periodic("a job", job, every_s=0.001), 0.2)

        assert job.turns > 5

    async def test_keeps_its_schedule_when_the_job_raises(self) -> None:
        job = Job()
        job.fails = True

        await run_for(Periodic("a job", job, every_s=0.001), 0.2)

        assert job.turns > 5

    async def test_logs_the_first_failure_and_the_recovery_only(self, caplog: pytest.LogCaptureFixture) -> None:
        job = Job()
        periodic = Periodic("a job", job, every_s=1)
        with caplog.at_level(logging.INFO):
            for fails in (False, True, True, True, False, False, True):
                job.fails = fails
                await periodic.once()

        assert [record.getMessage().split(":")[0] for record in caplog.records] == [
            "a job fails and is tried again",
            "a job works again",
            "a job fails and is tried again",
        ]

    async def test_one_that_lasts_is_told_to_work_while_it_does_and_to_fail_when_it_ends_so(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def job(works: Callable[[], None]) -> None:
            works()
            said.append(len(caplog.records))
            raise ConnectionError("lost")

        said: list[int] = []
        periodic = Lasting("a job", job, every_s=1)
        with caplog.at_level(logging.INFO):
            for _ in range(2):
                await periodic.once()

        assert said == [0, 2]
        assert [record.getMessage().split(":")[0] for record in caplog.records] == [
            "a job fails and is tried again",
            "a job works again",
            "a job fails and is tried again",
        ]

    async def test_can_be_cancelled_in_the_middle_of_its_job(self) -> None:
        async def forever() -> None:
            await asyncio.sleep(3600)

        task = asyncio.create_task(Periodic("a job", forever, every_s=1).run())
        await asyncio.sleep(0)
        task.cancel()

        with pytest.raises(asyncio.CancelledError):
            await task
