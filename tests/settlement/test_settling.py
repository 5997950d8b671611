"""Settling when nothing goes wrong, and when a process ends in the middle of it."""

from __future__ import annotations

import pytest

from tests.settlement.bench import Bench, Killed, killer


@pytest.mark.asyncio
class TestSettling:
    async def test_debits_what_was_used_and_tells_the_user(self, bench: Bench) -> None:
        user = bench.user()
        bench.uses(user, 700)
        bench.uses(user, 300)
        settler = await bench.recovered(bench.settler())

        await bench.settle(settler)

        assert bench.debits(user) == [1000]
        assert bench.credit(user) == {"cum": 1000, "settled": 1000, "inflight": 0}
        assert bench.outstanding() == []
        (told,) = bench.settlements(user)
        assert (told["tokens"], told["from_cum"], told["to_cum"], told["cost_wei"]) == (1000, 0, 1000, str(10**15))
        await settler.tick()
        status = bench.status()
        assert (status["state"], status["outstanding"], status["mismatch"]) == ("ok", 0, 0)
        assert status["address"] == bench.key.address.lower()


STEPS = ["before_plan", "planned", "signed", "journaled", "sent", "confirmed", "final"]


@pytest.mark.asyncio
class TestAProcessThatIsKilled:
    @pytest.mark.parametrize("step", STEPS)
    async def test_at_any_step_leaves_nothing_out_and_nothing_twice(self, bench: Bench, step: str) -> None:
        user, other = bench.user(), bench.user()
        await bench.recovered(bench.settler())
        bench.uses(user, 500)
        bench.uses(other, 900)

        with pytest.raises(Killed):
            await bench.settle(bench.settler(at=killer(step)))
        await bench.settle(bench.settler())

        assert (bench.debits(user), bench.debits(other)) == ([500], [900])
        assert bench.credit(user) == {"cum": 500, "settled": 500, "inflight": 0}
        assert bench.credit(other) == {"cum": 900, "settled": 900, "inflight": 0}
        assert bench.outstanding() == []
