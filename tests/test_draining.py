"""The end of a process, as the work in it sees it."""

from __future__ import annotations

import asyncio

import pytest

from core.draining import Drain


class Work:
    """Something that runs and counts how often it was interrupted."""

    def __init__(self) -> None:
        self.interrupted = 0

    def interrupt(self) -> None:
        self.interrupted += 1


@pytest.mark.asyncio
class TestDrain:
    async def test_refuses_new_work_from_its_beginning_on(self) -> None:
        drain = Drain(10)
        assert not drain.draining

        drain.begin()

        assert drain.draining

    async def test_interrupts_once_what_still_runs_when_the_time_is_up(self) -> None:
        drain, one, other = Drain(0.05), Work(), Work()
        drain.add_interrupt(one.interrupt)
        drain.add_interrupt(other.interrupt)
        drain.begin()
        drain.begin()
        await asyncio.sleep(0)
        assert (one.interrupted, other.interrupted) == (0, 0)

        await asyncio.sleep(0.15)

        assert (one.interrupted, other.interrupted) == (1, 1)

    async def test_interrupts_at_once_what_begins_after_that(self) -> None:
        drain, late = Drain(0.01), Work()
        drain.begin()
        await asyncio.sleep(0.05)

        drain.add_interrupt(late.interrupt)
        await asyncio.sleep(0)

        assert late.interrupted == 1
