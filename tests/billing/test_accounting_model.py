"""Any order of admissions, endings, reaps and passing time, against a plain model of what should stand in Redis."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass

import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from core import redis_keys
from core.access.grant import Grant
from core.access.rate_limit import RateLimiter
from core.auth.caller import Caller
from core.billing.ledger import Ledger, Totals
from core.billing.reaper import Reaper
from core.catalog import Tier
from core.errors import RateLimited
from core.inference.completion import Usage
from core.nodes.node import Node
from core.store import open_store
from tests.access.gates import ADA, BOB, CATALOG

MINUTE_MS = 60_000
LIMIT, WINDOW_MIN, LEASE_MIN, STEP_MIN = 3, 60, 30, 25  # no multiple of the step is near the others: real time is small
NODES = ("http://one", "http://two")
MAX_TOKENS = 5000
PICK = st.integers(0, 1000)


@dataclass
class Entry:
    """What the model knows of one admitted request; minutes."""

    caller: Caller
    tier: Tier
    at: int
    is_open: bool = True
    is_counted: bool = False  # in the window
    is_committed: bool = False


class Accounting(RuleBasedStateMachine):
    """The real scripts and the model, side by side."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.raw = redis.Redis.from_url(redis_url, decode_responses=True)
        self.raw.flushall()
        self.runner, self.stack = asyncio.Runner(), AsyncExitStack()
        self.store = self.runner.run(self.stack.enter_async_context(open_store(redis_url, timeout_s=10)))
        self.ledger = Ledger(self.store)
        self.limiter = RateLimiter(self.store, limit=LIMIT, window_s=WINDOW_MIN * 60, lease_s=LEASE_MIN * 60)
        self.now = 0
        self.entries: dict[str, Entry] = {}
        self.totals = {node: Totals(answers=0, prompt_tokens=0, completion_tokens=0) for node in ("", *NODES)}

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.raw.close()

    @rule(caller=st.sampled_from([ADA, BOB]), tier=st.sampled_from([Tier.FREE, Tier.FREE, Tier.PRO]))
    def admit(self, caller: Caller, tier: Tier) -> None:
        request_id = f"req_{len(self.entries)}"
        counted = self.window(caller)
        expected = LIMIT + 1 if tier is Tier.PRO else len(counted) + 1
        if tier is Tier.FREE and len(counted) >= LIMIT:
            assert self.enter(request_id, caller, tier) is None
            return
        assert self.enter(request_id, caller, tier) == expected
        self.entries[request_id] = Entry(caller, tier, self.now, is_counted=tier is Tier.FREE)

    @precondition(lambda self: self.window(ADA))
    @rule(pick=PICK)
    def admit_the_same_again(self, pick: int) -> None:
        counted = self.window(ADA)

        assert self.enter(counted[pick % len(counted)], ADA, Tier.FREE) == len(counted)

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def hand_back(self, pick: int) -> None:
        grant, entry = self.pick(pick)
        self.runner.run(self.ledger.hand_back(grant))
        entry.is_counted = entry.is_counted and not entry.is_open
        entry.is_open = False

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def deliver(self, pick: int) -> None:
        grant, entry = self.pick(pick)
        self.runner.run(self.ledger.delivered(grant))
        entry.is_open = False

    @precondition(lambda self: self.entries)
    @rule(pick=PICK, node=st.sampled_from(NODES), tokens=st.integers(0, MAX_TOKENS))
    def commit(self, pick: int, node: str, tokens: int) -> None:
        grant, entry = self.pick(pick)
        self.runner.run(self.ledger.commit(grant, Usage(7, tokens, 7 + tokens), Node(node), 250))
        if not entry.is_committed:
            for totals in (self.totals[""], self.totals[node]):
                totals["answers"] += 1
                totals["prompt_tokens"] += 7
                totals["completion_tokens"] += tokens
        entry.is_open, entry.is_committed = False, True

    @rule()
    def reap(self) -> None:
        overdue = [e for e in self.entries.values() if e.is_open and e.at + LEASE_MIN <= self.now]

        assert self.runner.run(Reaper(self.store, batch=2).reap()) == len(overdue)
        for entry in overdue:
            entry.is_open = entry.is_counted = False

    @rule()
    def time_passes(self) -> None:
        """Redis' clock can't be moved, so all that it has noted becomes older."""
        self.now += STEP_MIN
        for key in (redis_keys.OPEN_REQUESTS, redis_keys.quota(ADA.subject), redis_keys.quota(BOB.subject)):
            for member in self.raw.zrange(key, 0, -1):
                self.raw.zincrby(key, -STEP_MIN * MINUTE_MS, str(member))

    @invariant()
    def the_windows_agree(self) -> None:
        for caller in (ADA, BOB):
            seconds, _ = self.raw.time()
            since = (seconds - WINDOW_MIN * 60) * 1000
            young = self.raw.zrangebyscore(redis_keys.quota(caller.subject), since, "+inf")

            assert set(young) == set(self.window(caller))
            assert self.raw.zcard(redis_keys.quota(caller.subject)) <= LIMIT

    @invariant()
    def the_open_requests_agree(self) -> None:
        expected = {redis_keys.open_request(e.caller.subject, i) for i, e in self.entries.items() if e.is_open}

        assert set(self.raw.zrange(redis_keys.OPEN_REQUESTS, 0, -1)) == expected

    @invariant()
    def the_totals_agree(self) -> None:
        assert self.runner.run(self.ledger.totals()) == self.totals[""]
        for node in NODES:
            assert self.runner.run(self.ledger.node_totals(node)) == self.totals[node]

    def window(self, caller: Caller) -> list[str]:
        """The ids that count against a caller now."""
        return [
            request_id
            for request_id, entry in self.entries.items()
            if entry.caller == caller and entry.is_counted and entry.at + WINDOW_MIN > self.now
        ]

    def enter(self, request_id: str, caller: Caller, tier: Tier) -> int | None:
        """What the limiter says is used; None for a refusal, one more than possible for Pro."""
        try:
            quota = self.runner.run(self.limiter.enter(request_id, caller, tier))
        except RateLimited:
            return None
        return LIMIT + 1 if quota is None else quota.used

    def pick(self, number: int) -> tuple[Grant, Entry]:
        request_id = list(self.entries)[number % len(self.entries)]
        entry = self.entries[request_id]
        return Grant(request_id, entry.caller, entry.tier, CATALOG.require("small"), MAX_TOKENS, None), entry


class TestAccounting:
    def test_no_order_of_events_loses_or_doubles_anything(self, redis_url: str) -> None:
        class OverThisRedis(Accounting):
            def __init__(self) -> None:
                super().__init__(redis_url)

        bounded = settings(
            max_examples=50,
            stateful_step_count=30,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),  # a slow machine is no fault
        )
        run_state_machine_as_test(OverThisRedis, settings=bounded)
