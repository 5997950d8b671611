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
        drain, running, finished = Drain(0.05), Work(), Work()
        drain.add_interrupt(running.interrupt)
        drain.add_interrupt(finished.interrupt)
        drain.begin()
        drain.begin()
        await asyncio.sleep(0)
        assert running.interrupted == 0
        drain.remove_interrupt(finished.interrupt)

        await asyncio.sleep(0.15)

        assert running.interrupted == 1
        assert finished.interrupted == 0

    async def test_interrupts_at_once_what_begins_after_that(self) -> None:
        drain, late = Drain(0.01), Work()
        drain.begin()
        await asyncio.sleep(0.05)

        drain.add_interrupt(late.interrupt)
        await asyncio.sleep(0)

        assert late.interrupted == 1

    async def test_work_may_take_its_interrupt_back_while_it_is_interrupted(self) -> None:
        drain, other = Drain(0), Work()

        def end() -> None:
            drain.remove_interrupt(end)
            drain.remove_interrupt(end)

        drain.add_interrupt(end)
        drain.add_interrupt(other.interrupt)
        drain.begin()
        await asyncio.sleep(0.02)

        assert other.interrupted == 1
