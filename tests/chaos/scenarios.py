"""For each precaution, the course of events that it is there for: made on purpose, and the same each time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from core import redis_keys
from tests.chaos.crew import Crew, Member
from tests.chaos.fate import Fate
from tests.chaos.troubles import BLOCK_S, wipe_journal
from tests.chaos.worker import WINDOW_S, serve
from tests.fakes.faulty_rpc import Rates

LONGEST_S = 20.0
STEP_S = 0.02
FEW, MANY = 12, 30  # answers


class NeverHappened(Exception):
    """The scenario could not be played."""


@dataclass
class Stage:
    """One settler and one worker at a time, and nothing by chance."""

    crew: Crew
    _mined: float = 0.0

    def settler(self, point: str = "", signal_: int = signal.SIGKILL, *, passages: int = 1, then: str = "") -> Member:
        """A new settler, whose fate may be a point, and death at another one."""
        record = self.crew.servers.record
        fate, end = Fate(record, point, passages, signal_), Fate(record, then)

        def at(name: str) -> None:
            fate(name)
            end(name)

        return self.crew.start("settler", at)

    def load(self, answers: int = FEW, *, users: Sequence[str] = (), mining: bool = True) -> None:
        """So many more answers reach their users."""
        worker = self.crew.start("worker", life=partial(serve, users=users))
        self.more(answers, mining=mining)
        self.crew.kill(worker)

    def more(self, answers: int = FEW, *, mining: bool = True) -> None:
        """The same, by workers that are there."""
        wanted = self._delivered() + answers
        self.until(lambda: self._delivered() >= wanted, mining=mining)

    def begin(self) -> Member:
        """Some money has gone to the chain already, and there is more to come; the settler that does it."""
        settler = self.settler()
        self.until(self.is_ok)
        self.load(MANY)
        return settler

    def until(self, happens: Callable[[], object], *, mining: bool = True) -> None:
        """Waits for it."""
        end = time.monotonic() + LONGEST_S
        while not happens():
            if time.monotonic() > end:
                raise NeverHappened(getattr(happens, "__name__", happens))
            self._pass(mining=mining)

    def last(self, seconds: float, *, mining: bool = True) -> None:
        """Time passes."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self._pass(mining=mining)

    def has_died(self, point: str) -> Callable[[], bool]:
        """Whether some process has come to its point."""
        return lambda: self.crew.servers.record.deaths()[point] > 0

    def is_ok(self) -> bool:
        """Whether a settler has a journal and works."""
        status: Any = self.crew.servers.client.get(redis_keys.SETTLER)
        return status is not None and msgspec.json.decode(status)["state"] == "ok"

    def all_settled(self) -> bool:
        """Whether nobody owes anything."""
        return self.is_ok() and not self.crew.servers.client.exists(redis_keys.OUTSTANDING, redis_keys.JOURNAL_OPEN)

    def _delivered(self) -> int:
        return sum(answer.delivered is not None for answer in self.crew.servers.record.answers().values())

    def _pass(self, *, mining: bool) -> None:
        if mining and time.monotonic() > self._mined + BLOCK_S:
            self._mined = time.monotonic()
            self.crew.servers.market.mine()
        time.sleep(STEP_S)


def killed_when_sent(stage: Stage) -> None:
    """A settler dies with a debit on its way, and the next one comes before that is in a block."""
    stage.crew.kill(stage.begin())
    stage.load()
    stage.settler("sent")
    stage.until(stage.has_died("sent"), mining=False)
    stage.crew.watch()
    stage.settler()
    stage.last(1.5, mining=False)


def taken_back(stage: Stage) -> None:
    """A block with debits is taken back, and their nonces go to somebody else's transactions."""
    settler, market = stage.begin(), stage.crew.servers.market
    for _ in range(3):
        stage.until(stage.all_settled)
        stage.load(mining=False)
        stage.until(market.waiting, mining=False)
        market.mine()
        stage.last(0.4, mining=False)
        os.kill(settler.pid, signal.SIGSTOP)
        used = market.nonce()
        market.reorg(1)
        for waiting in market.waiting():  # else somebody else's come behind these, and the nonces are nobody's
            market.drop(waiting)
        for _ in range(used - market.nonce()):
            market.foreign()
        market.mine()
        os.kill(settler.pid, signal.SIGCONT)


def replies_lost(stage: Stage) -> None:
    """For a while the endpoint passes everything on, and says that it failed."""
    stage.begin()
    stage.crew.servers.rpc.misbehave({"eth_sendRawTransaction": Rates(drop_after=1)})
    stage.load(MANY)
    stage.crew.servers.rpc.misbehave({})
    stage.load()


def two_recover(stage: Stage) -> None:
    """A settler stands still in a recovery, and goes on, only to die, in the middle of a later one."""
    stage.crew.kill(stage.begin())
    stage.load()
    wipe_journal(stage.crew.servers)
    slow = stage.settler("recover_read", signal.SIGSTOP, then="ran recover_write")
    stage.until(stage.has_died("stopped recover_read"))
    quick = stage.settler("ran recover_write", signal.SIGSTOP, passages=2)
    stage.until(stage.all_settled)
    wipe_journal(stage.crew.servers)
    stage.until(stage.has_died("stopped ran recover_write"))
    os.kill(slow.pid, signal.SIGCONT)
    stage.until(stage.has_died("ran recover_write"), mining=False)
    os.kill(quick.pid, signal.SIGCONT)
    stage.until(lambda: stage.crew.servers.client.exists(redis_keys.JOURNAL_NEXT))
    stage.last(0.5)


def redis_forgets_plans(stage: Stage) -> None:
    """Redis comes back without the latest plans, whose debits wait in the pool, and other ones are to be made."""
    servers, market = stage.crew.servers, stage.crew.servers.market
    stage.begin()
    stage.until(stage.all_settled)
    stage.crew.kill()
    stage.load()
    stage.settler("before_plan", signal.SIGSTOP)
    stage.until(stage.has_died("stopped before_plan"), mining=False)
    size = servers.journal_size()
    os.kill(stage.crew.members[-1].pid, signal.SIGCONT)
    stage.until(lambda: len(market.waiting()) > 1, mining=False)
    stage.crew.kill()
    second = market.waiting()[1]
    servers.roll_back(size)
    stage.load(users=[market.debtor(second)], mining=False)
    stage.settler()
    stage.last(1.5, mining=False)


def redis_forgets_answers(stage: Stage) -> None:
    """Redis comes back without what it had confirmed last, soon or late; the workers live."""
    stage.begin()
    worker = stage.crew.start("worker")
    for away_s in (0, 1.5 * WINDOW_S):
        stage.more()
        size = stage.crew.servers.journal_size()
        stage.more(FEW // 2)
        stage.crew.servers.roll_back(size, away_s)
    stage.more(MANY)
    stage.crew.kill(worker)


SCENARIOS: dict[str, Callable[[Stage], None]] = {
    "no_write_ahead": killed_when_sent,
    "no_confirmations": taken_back,
    "error_means_unsent": replies_lost,
    "no_epoch": two_recover,
    "no_run_id_guard": redis_forgets_plans,
    "no_replay": redis_forgets_answers,
}
