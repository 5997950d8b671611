"""Any order of what workers, reapers and a settler do with paid requests, against a plain model of the credit."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import pytest
import redis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from core import redis_keys
from core.access.grant import Grant
from core.auth.caller import Caller
from core.billing.charges import Charges
from core.billing.ledger import Ledger, Totals
from core.billing.reaper import Reaper
from core.errors import InsufficientCredit, TooMuchUnsettled
from core.settlement.journal import Journal, JournalMoved, OpenTx, Settlement
from core.store import open_store
from tests.access.gates import ADA, BOB
from tests.billing.paying import LATENCY_MS, NODE, Books, reserve, usage

MINUTE_MS = 60_000
LEASE_MIN, STEP_MIN = 30, 25  # no multiple of the step is near the lease: real time is small
CAP, DEPOSIT, MOST_OPEN = 150, 200, 2
EPOCH, FIRST_NONCE = "epoch", 7
CALLERS = st.sampled_from([ADA, ADA, BOB])
PICK, PROMPT, COMPLETION = st.integers(0, 1000), st.integers(0, 20), st.integers(0, 60)


@dataclass
class Entry:
    """What the model knows of one request; minutes."""

    grant: Grant
    lease_end: int
    state: str = "reserved"
    noted: tuple[int, int] = (0, 0)
    charged: tuple[int, int] = (0, 0)

    @property
    def user(self) -> str:
        """Whose it is."""
        return self.grant.caller.subject


@dataclass
class Account:
    """What the model knows of one user; tokens. `excess`: what I8 can't hold for, since it came after the hold."""

    deposit: int = DEPOSIT
    excess: int = 0
    credit: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("cum", "settled", "inflight"), 0))
    is_in_debt: bool = False

    @property
    def outstanding(self) -> int:
        """Used, and not paid on the chain."""
        return self.credit["cum"] - self.credit["settled"]


class PaidRequests(RuleBasedStateMachine):
    """The real scripts and the model, side by side."""

    def __init__(self, redis_url: str) -> None:
        super().__init__()
        self.books = Books(redis_url)
        self.raw: redis.Redis = self.books.redis
        self.raw.flushall()
        self.runner, self.stack = asyncio.Runner(), AsyncExitStack()
        self.store = self.runner.run(self.stack.enter_async_context(open_store(redis_url, timeout_s=10)))
        self.charges = Charges(self.store, most_unsettled=CAP, lease_s=LEASE_MIN * 60)
        self.ledger = Ledger(self.store, charges=self.charges)
        self.journal = Journal(self.store)
        run = str(self.raw.info("server")["run_id"])
        life = {redis_keys.JOURNAL_EPOCH: EPOCH, redis_keys.JOURNAL_RUN: run, redis_keys.JOURNAL_NEXT: str(FIRST_NONCE)}
        for key, value in life.items():
            self.raw.set(key, value)
        self.now, self.next = 0, FIRST_NONCE
        self.entries: dict[str, Entry] = {}
        self.accounts = {caller.subject: Account() for caller in (ADA, BOB)}
        self.open: list[tuple[OpenTx, int]] = []  # each with what it does not pay
        self.closed: list[OpenTx] = []

    def teardown(self) -> None:
        self.runner.run(self.stack.aclose())
        self.runner.close()
        self.raw.close()

    # What workers do

    @rule(caller=CALLERS, tokens=st.integers(1, 80) | st.just(CAP + 10))
    def reserve(self, caller: Caller, tokens: int) -> None:
        request_id, account = f"req_{len(self.entries)}", self.accounts[caller.subject]
        held = account.outstanding + self.reserved(caller.subject)
        if account.is_in_debt or held + tokens > account.deposit:
            with pytest.raises(InsufficientCredit):
                self.enter(request_id, caller, tokens)
        elif held and held + tokens > CAP:
            with pytest.raises(TooMuchUnsettled):
                self.enter(request_id, caller, tokens)
        else:
            self.entries[request_id] = Entry(self.enter(request_id, caller, tokens), self.now + LEASE_MIN)

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def reserve_the_same_again(self, pick: int) -> None:
        grant = self.pick(pick).grant
        self.enter(grant.request_id, grant.caller, grant.max_tokens)

    @precondition(lambda self: self.entries)
    @rule(pick=PICK, prompt=PROMPT, completion=COMPLETION)
    def checkpoint(self, pick: int, prompt: int, completion: int) -> None:
        entry = self.pick(pick)
        used = within(entry.grant, prompt, completion)
        self.runner.run(self.ledger.checkpoint(entry.grant, usage(*used), NODE))
        if entry.state == "reserved":
            entry.lease_end = self.now + LEASE_MIN
            entry.noted = used if used[1] > entry.noted[1] else entry.noted

    @precondition(lambda self: self.entries)
    @rule(pick=PICK, prompt=PROMPT, completion=COMPLETION, times=st.integers(1, 2))
    def commit(self, pick: int, prompt: int, completion: int, times: int) -> None:
        """In time, again, or long after a reaper has ended it."""
        entry = self.pick(pick)
        used = within(entry.grant, prompt, completion)
        for _ in range(times):
            self.runner.run(self.ledger.commit(entry.grant, usage(*used), NODE, LATENCY_MS))
        self.charge(entry, used)

    @rule(caller=CALLERS, tokens=st.integers(1, 60), prompt=PROMPT, completion=COMPLETION)
    def serve(self, caller: Caller, tokens: int, prompt: int, completion: int) -> None:
        """All goes well, if he is let in."""
        before = len(self.entries)
        self.reserve(caller, tokens)
        if len(self.entries) > before:
            self.commit(before, prompt, completion, 1)

    @precondition(lambda self: self.entries)
    @rule(pick=PICK)
    def hand_back(self, pick: int) -> None:
        entry = self.pick(pick)
        self.runner.run(self.ledger.hand_back(entry.grant))
        if entry.state == "reserved" and not entry.noted[1]:
            entry.state = "void"

    # What reapers do

    @rule()
    def reap(self) -> None:
        overdue = [e for e in self.entries.values() if e.state == "reserved" and e.lease_end <= self.now]

        assert self.runner.run(Reaper(self.store, batch=2).reap()) == len(overdue)
        for entry in overdue:
            if entry.noted[1]:
                self.charge(entry, entry.noted)
            else:
                entry.state = "void"

    @rule()
    def time_passes(self) -> None:
        """Redis' clock can't be moved, so all that it has noted becomes older."""
        self.now += STEP_MIN
        for member in self.raw.zrange(redis_keys.RESERVATIONS, 0, -1):
            self.raw.zincrby(redis_keys.RESERVATIONS, -STEP_MIN * MINUTE_MS, str(member))

    # What a settler does

    @precondition(lambda self: any(account.outstanding for account in self.accounts.values()))
    @rule(caller=CALLERS)
    def plan(self, caller: Caller) -> None:
        user, account = caller.subject, self.accounts[caller.subject]
        owed, credit = account.outstanding, account.credit
        with pytest.raises(JournalMoved):  # I9
            self.plan_in("earlier", user)
        if len(self.open) == MOST_OPEN:
            with pytest.raises(JournalMoved):
                self.plan_in(EPOCH, user)
            return
        tx = self.plan_in(EPOCH, user)
        if credit["inflight"] or not owed:
            assert tx is None
            return
        pays = min(owed, account.deposit)
        account.is_in_debt = account.is_in_debt or pays < owed
        if not pays:
            assert tx is None
            return
        assert tx == OpenTx(EPOCH, self.next, user, pays, credit["settled"], credit["settled"] + pays)
        credit["inflight"] = pays
        self.open.append((tx, owed - pays))
        self.next += 1

    @precondition(lambda self: self.open)
    @rule(is_paid=st.sampled_from([True, True, False]))
    def close(self, is_paid: bool) -> None:
        """The chain says how the oldest transaction ended."""
        tx, rest = self.open.pop(0)
        self.closed.append(tx)
        account = self.accounts[tx.user]

        assert not self.close_it(replace(tx, epoch="earlier"), is_paid=is_paid)  # I9
        assert self.close_it(tx, is_paid=is_paid)
        account.credit["inflight"] = 0
        if is_paid:
            account.credit["settled"] += tx.tokens
            account.deposit -= tx.tokens
            account.is_in_debt = account.is_in_debt and rest > 0

    @precondition(lambda self: any(account.outstanding for account in self.accounts.values()))
    @rule()
    def settle(self) -> None:
        """All goes well on the chain."""
        for caller in (ADA, BOB):
            self.plan(caller)
            while self.open:
                self.close(is_paid=True)

    @precondition(lambda self: self.closed)
    @rule(pick=PICK, is_paid=st.booleans())
    def close_again(self, pick: int, is_paid: bool) -> None:
        assert not self.close_it(self.closed[pick % len(self.closed)], is_paid=is_paid)

    # What users do with their deposit

    @rule(caller=CALLERS, tokens=st.integers(1, 100) | st.just(10 * CAP))
    def deposit(self, caller: Caller, tokens: int) -> None:
        self.accounts[caller.subject].deposit += tokens

    @rule(caller=CALLERS, tokens=st.integers(1, 150))
    def withdraw(self, caller: Caller, tokens: int) -> None:
        account = self.accounts[caller.subject]
        taken = min(tokens, account.deposit - account.credit["inflight"])
        account.deposit -= taken
        account.excess += taken

    @precondition(lambda self: any(account.outstanding for account in self.accounts.values()))
    @rule()
    def withdraw_all_before_it_is_due(self) -> None:
        """Who owes the most runs into debt, and then pays in again."""
        caller = max((ADA, BOB), key=lambda caller: self.accounts[caller.subject].outstanding)
        self.withdraw(caller, self.accounts[caller.subject].deposit)
        self.plan(caller)
        self.deposit(caller, 10 * CAP)

    # What holds at any time

    @invariant()
    def the_credits_agree(self) -> None:
        for user, account in self.accounts.items():
            debt, reserved = int(account.is_in_debt), self.reserved(user)
            assert self.books.credit(user) == account.credit | {"reserved": reserved, "debt": debt}

    @invariant()
    def the_charges_agree(self) -> None:
        for request_id, entry in self.entries.items():
            charge = self.books.charge(request_id)
            used = entry.noted if entry.state in ("reserved", "void") else entry.charged
            assert charge["state"] == entry.state
            assert (int(charge["prompt_tokens"]), int(charge["completion_tokens"])) == used
            assert int(charge["tokens"]) == sum(used)

    @invariant()
    def the_requests_under_way_agree(self) -> None:
        expected = {member(entry) for entry in self.entries.values() if entry.state == "reserved"}

        assert set(self.raw.zrange(redis_keys.RESERVATIONS, 0, -1)) == expected

    @invariant()
    def the_totals_agree(self) -> None:
        charged = [entry.charged for entry in self.entries.values() if entry.state == "committed"]
        prompt, completion = (sum(column) for column in zip((0, 0), *charged, strict=True))

        expected = Totals(answers=len(charged), prompt_tokens=prompt, completion_tokens=completion)
        assert self.runner.run(self.ledger.totals()) == expected
        assert self.runner.run(self.ledger.node_totals(NODE.url)) == expected

    @invariant()
    def cum_is_the_sum_of_the_charges(self) -> None:
        """I1, and the list of charges ends where cum is."""
        for user in self.accounts:
            key = redis_keys.charges(user)
            listed = [str(request_id) for request_id in self.raw.zrange(key, 0, -1)]
            charged = [int(self.books.charge(request_id)["tokens"]) for request_id in listed]
            last = self.raw.zscore(key, listed[-1]) if listed else 0
            assert self.books.credit(user)["cum"] == sum(charged) == last

    @invariant()
    def no_more_is_settled_than_used(self) -> None:
        """I2 and I7."""
        for user in self.accounts:
            credit = self.books.credit(user)
            assert 0 <= credit["settled"] <= credit["settled"] + credit["inflight"] <= credit["cum"]

    @invariant()
    def open_transactions_are_few_and_without_gaps(self) -> None:
        """I5."""
        view = self.runner.run(self.journal.look())
        users = [tx.user for tx in view.open]
        assert len(set(users)) == len(users) <= MOST_OPEN
        assert [tx.nonce for tx in view.open] == list(range(self.next - len(users), self.next))
        assert view.next == self.next

    @invariant()
    def the_deposit_covers_what_is_used_and_held(self) -> None:
        """I8."""
        for user, account in self.accounts.items():
            credit = self.books.credit(user)
            assert credit["reserved"] >= 0
            assert credit["cum"] - credit["settled"] + credit["reserved"] <= account.deposit + account.excess

    @invariant()
    def who_owes_is_on_the_list(self) -> None:
        expected = {user for user, account in self.accounts.items() if account.outstanding}

        assert set(self.raw.zrange(redis_keys.OUTSTANDING, 0, -1)) == expected

    # The words of the rules

    def charge(self, entry: Entry, used: tuple[int, int]) -> None:
        """The model's charge."""
        account = self.accounts[entry.user]
        most = max(entry.charged[0], used[0]), max(entry.charged[1], used[1])
        more = sum(most) - sum(entry.charged)
        account.credit["cum"] += more
        account.excess += 0 if entry.state == "reserved" else more
        entry.charged, entry.state = most, "committed"

    def reserved(self, user: str) -> int:
        """Tokens that are held for a user."""
        return sum(e.grant.max_tokens for e in self.entries.values() if e.user == user and e.state == "reserved")

    def enter(self, request_id: str, caller: Caller, tokens: int) -> Grant:
        deposit = self.accounts[caller.subject].deposit
        return self.runner.run(reserve(self.charges, request_id, tokens, deposit=deposit, caller=caller))

    def pick(self, number: int) -> Entry:
        return list(self.entries.values())[number % len(self.entries)]

    def plan_in(self, epoch: str, user: str) -> OpenTx | None:
        deposit = self.accounts[user].deposit
        return self.runner.run(self.journal.plan(epoch, self.next, user, deposit, MOST_OPEN))

    def close_it(self, tx: OpenTx, *, is_paid: bool) -> bool:
        paid = Settlement(f"0x{tx.nonce:064x}", 1, tx.tokens, tx.from_cum, tx.to_cum, str(tx.tokens), 1)
        return self.runner.run(self.journal.close(tx, paid if is_paid else None))


def within(grant: Grant, prompt: int, completion: int) -> tuple[int, int]:
    """What an answer may take is what was held for it."""
    prompt = min(prompt, grant.max_tokens)
    return prompt, min(completion, grant.max_tokens - prompt)


def member(entry: Entry) -> str:
    """A request under way."""
    return redis_keys.open_request(entry.user, entry.grant.request_id)


def run(redis_url: str, *, examples: int, steps: int) -> None:
    """So many stories of so many steps, the same ones each time."""

    class OverThisRedis(PaidRequests):
        def __init__(self) -> None:
            super().__init__(redis_url)

    bounded = settings(
        max_examples=examples,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),  # a slow machine is no fault
    )
    run_state_machine_as_test(OverThisRedis, settings=bounded)


class TestLedger:
    def test_no_order_of_events_loses_or_doubles_a_token(self, redis_url: str) -> None:
        run(redis_url, examples=80, steps=40)

    @pytest.mark.long
    def test_nor_does_any_of_many_long_ones(self, redis_url: str) -> None:
        run(redis_url, examples=300, steps=80)
