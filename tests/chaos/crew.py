"""The processes of a run: started, killed, and started again."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from core.steps import Step, unwatched
from tests.chaos import mutations
from tests.chaos.fate import Fate
from tests.chaos.plan import SETTLER_POINTS, WORKER_POINTS
from tests.chaos.servers import Servers
from tests.chaos.settler import settle
from tests.chaos.worker import close_books, serve
from workers import child

MOST_PASSAGES = 8
FIRST_HELP_S, HELP_S = 0.4, 2.5
LIFE_S = 6.0  # whoever has not come to his point by then is killed wherever he is
Life = Callable[[Servers, Step], Coroutine[Any, Any, None]]

LIVES: dict[str, Life] = {"settler": settle, "worker": serve}
POINTS_OF = {"settler": SETTLER_POINTS, "worker": WORKER_POINTS}


@dataclass(slots=True)
class Member:
    """A process that lives."""

    kind: str  # "settler" or "worker"
    pid: int
    point: str
    born: float
    helped: float = 0.0


@dataclass
class Crew:
    """Everybody of a run. `pending` are the points at which nobody has died yet."""

    servers: Servers
    chance: random.Random
    pending: list[str] = field(default_factory=list)
    members: list[Member] = field(default_factory=list)
    kills: Counter[str] = field(default_factory=Counter)
    _helped: float = 0.0

    def __post_init__(self) -> None:
        self.pending = list(self.servers.plan.points)
        self.chance.shuffle(self.pending)

    def keep_up(self, life_s: float = LIFE_S) -> None:
        """Replaces whoever died, and kills who has lived long enough."""
        for member in self.members:
            if time.monotonic() - member.born > life_s:
                os.kill(member.pid, signal.SIGKILL)
        self.watch()
        plan = self.servers.plan
        for kind, wanted in (("settler", plan.settlers), ("worker", plan.workers)):
            missing = wanted - sum(member.kind == kind for member in self.members)
            for _ in range(missing):
                self._start_next(kind)

    def waited_for(self) -> str | None:
        """A point that nobody has come to, though somebody tries: he needs help, one at a time."""
        now = time.monotonic()
        waiting = [
            member for member in self.members if member.point in self.pending and now > member.born + FIRST_HELP_S
        ]
        if not waiting or now < self._helped + HELP_S:
            return None
        member = min(waiting, key=lambda member: member.helped)
        member.helped = self._helped = now
        return member.point

    def start(self, kind: str, at: Step = unwatched, point: str = "", life: Life | None = None) -> Member:
        """A new process, which ends with this one; `life` is what it does, if not the usual."""
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            self._live(life or LIVES[kind], at, parent)
        member = Member(kind, pid, point, time.monotonic())
        self.members.append(member)
        return member

    def kill(self, *members: Member) -> None:
        """They are gone when it returns; without names, all."""
        for member in members or tuple(self.members):
            os.kill(member.pid, signal.SIGKILL)
            os.waitpid(member.pid, 0)
            self.members.remove(member)

    def watch(self) -> None:
        """Takes note of whoever ended of himself."""
        self.members = [member for member in self.members if not self._is_gone(member)]
        deaths = self.servers.record.deaths()
        self.pending = [point for point in self.pending if not deaths[point]]

    def drain(self) -> None:
        """From here on nobody asks and nobody dies: what is begun is brought to its end."""
        self.kill()
        self.start("settler")
        self.start("worker", life=close_books)

    def _start_next(self, kind: str) -> None:
        """The next one is to die where nobody has died yet, or anywhere."""
        points = POINTS_OF[kind]
        taken = {member.point for member in self.members}
        wanted = [point for point in self.pending if point in points and point not in taken]
        if wanted:
            point, passages = wanted[0], 1
            self.pending.remove(point)
            self.pending.append(point)  # others come first when this one fails
        else:
            point = self.chance.choice([point for point in self.servers.plan.points if point in points] or [""])
            passages = self.chance.randint(1, MOST_PASSAGES)
        self.start(kind, Fate(self.servers.record, point, passages), point)

    def _is_gone(self, member: Member) -> bool:
        pid, status = os.waitpid(member.pid, os.WNOHANG)
        if pid == 0:
            return False
        self.kills[member.kind] += os.WIFSIGNALED(status)
        return True

    def _live(self, life: Life, at: Step, parent: int) -> None:
        child.die_with_parent(parent)
        logging.basicConfig(
            filename=self.servers.folder / "log", level=logging.INFO, force=True, format="%(process)d %(message)s"
        )
        try:
            mutations.apply(self.servers.plan.mutation, self.servers.folder)
            asyncio.run(life(self.servers, at))
        except BaseException:  # noqa: BLE001 - a copy of the supervisor must not go on as one
            self.servers.record.crash(traceback.format_exc())
        os._exit(1)
