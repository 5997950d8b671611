"""One run: trouble, healing, draining, and the verdict."""

from __future__ import annotations

import random
import time
from collections import Counter
from dataclasses import dataclass

from core import redis_keys
from tests.chaos.crew import LIFE_S, Crew
from tests.chaos.plan import Plan
from tests.chaos.scenarios import SCENARIOS, Stage
from tests.chaos.servers import Servers, open_servers
from tests.chaos.troubles import Troubles
from tests.chaos.verdict import Verdict, compare

MORE_S = 60.0  # for points that nobody has come to
STEP_S = 0.02


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run was like, and what came of it."""

    plan: Plan
    verdict: Verdict
    kills: Counter[str]
    deaths: Counter[str]
    troubles: Counter[str]
    endpoint: dict[str, int]

    def __str__(self) -> str:
        verdict, kills = self.verdict, ", ".join(f"{number} {kind}" for kind, number in sorted(self.kills.items()))
        return (
            f"seed {self.plan.seed}: {verdict.answers} answers, {verdict.tokens} tokens; killed: {kills or 'nobody'};"
            f" {'drained' if verdict.drained else 'STUCK'}, lost {verdict.lost}, double {verdict.double}"
        )


def run(plan: Plan) -> Outcome:
    """All of it, in about the time that the plan says and some more."""
    with open_servers(plan) as servers:
        chance = random.Random(plan.seed)
        crew, troubles = Crew(servers, chance), Troubles(servers, chance)
        try:
            if plan.scenario is None:
                _storm(crew, troubles)
            else:
                SCENARIOS[plan.scenario](Stage(crew))
            crew.drain()
            troubles.end()
            drained = _drain(crew)
        finally:
            crew.kill()
        verdict = compare(servers, drained=drained)
        verdict.faults += servers.record.crashes()
        verdict.missed = [] if plan.scenario else crew.pending
        kills = crew.kills + Counter({"Redis": troubles.happened["kill_redis"]})
        return Outcome(plan, verdict, kills, servers.record.deaths(), troubles.happened, servers.rpc.counts())


def _storm(crew: Crew, troubles: Troubles) -> None:
    troubles.begin()
    end = time.monotonic() + crew.servers.plan.seconds
    while (now := time.monotonic()) < end or (crew.pending and now < end + MORE_S):
        is_over = now > end  # from here on only what leads to a point
        crew.keep_up(2 * LIFE_S if is_over else LIFE_S)
        if point := crew.waited_for():
            troubles.provoke(point)
        troubles.pass_time()
        if not is_over:
            troubles.look()
        time.sleep(STEP_S)


def _drain(crew: Crew) -> bool:
    """Lets the settler finish; whether it could."""
    until = time.monotonic() + crew.servers.plan.drain_s
    while time.monotonic() < until:
        crew.watch()
        crew.servers.market.mine()
        if _is_drained(crew.servers):
            return True
        time.sleep(STEP_S)
    return False


def _is_drained(servers: Servers) -> bool:
    client = servers.client
    if not client.exists(redis_keys.JOURNAL_NEXT):
        return False
    if (
        client.zcard(redis_keys.OUTSTANDING)
        or client.zcard(redis_keys.RESERVATIONS)
        or client.zcard(redis_keys.JOURNAL_OPEN)
    ):
        return False
    names = ("cum", "settled", "inflight", "reserved")
    for user in servers.market.users:
        found = client.hmget(redis_keys.credit(user.address.lower()), names)
        cum, settled, inflight, reserved = (int(value or 0) for value in found)
        if cum != settled or inflight or reserved:
            return False
    return not any(file.stat().st_size for file in servers.spool.glob("*.jsonl"))
