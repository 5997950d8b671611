"""Runs commits so that none is lost: neither by a Redis that is away, nor by one that has lost its last second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from core.billing.commit import Commit
from core.billing.spool import Spool
from core.bus import Bus
from core.ending import end
from core.errors import StoreUnavailable
from core.steps import Step, unwatched
from core.store import Store

MOST = 10_000  # that wait; what Redis has forgotten comes on top
MOST_RECENT = 5_000  # two seconds of 2,500 each: with so much to do, the store tells of a loss within one
PAUSE_S = 1.0
WINDOW_S = 15.0  # longer than a Redis that is killed may lose: it writes its file at least once a second

log = logging.getLogger(__name__)


class Commits:
    """
    A commit that fails goes to the spool, and is tried until Redis has it. What Redis has confirmed is run again after
    each loss of Redis, unless Redis has lived for `window_s` since: one that was killed may have forgotten it. Both
    are safe, since a commit counts once.

    The window counts from the last sign of life before the loss, not from the moment at which that is noticed, or at
    which Redis is back. Without a bus there are no signs of life, and without a spool, what waits is lost with the
    process.
    """

    def __init__(
        self,
        store: Store,
        spool: Spool | None = None,
        *,
        pause_s: float = PAUSE_S,
        window_s: float = WINDOW_S,
        at: Step = unwatched,
    ) -> None:
        self._store = store
        self._spool = spool
        self._pause_s = pause_s
        self._window_s = window_s
        self._at = at
        self._recent: deque[tuple[float, Commit]] = deque(maxlen=MOST_RECENT)
        self._waiting: deque[Commit] = deque()
        self._unwritten: list[Commit] = []  # those that wait and are not on the disk
        self._writing = asyncio.Lock()
        self._has_more_on_disk = False
        self._is_back = asyncio.Event()
        self._trying: asyncio.Task[None] | None = None
        self._is_closing = False

    def follow(self, bus: Bus) -> None:
        """Has the bus tell how Redis is."""
        bus.when_alive(self.forget)
        bus.when_lost(self.repeat)
        bus.when_back(self.hurry)

    def start(self) -> None:
        """Takes over what dead workers have left."""
        if self._spool is not None:
            self._try_later(self._spool.adopt())

    async def run(self, commit: Commit) -> Any:
        """The script's reply. Raises StoreUnavailable: then it is counted later."""
        try:
            self._at("before_commit")
            reply = await self._store.run(commit.script, commit.keys, commit.args)
            self._at("committed")
        except StoreUnavailable:
            self.repeat()
            await self._keep(commit)
            raise
        self._recent.append((time.monotonic(), commit))
        return reply

    def forget(self, alive_at: float) -> None:
        """Redis lived at this monotonic time: what it has had for long by then is on its disk."""
        while self._recent and self._recent[0][0] < alive_at - self._window_s:
            self._recent.popleft()

    def repeat(self) -> None:
        """Redis may have forgotten the latest commits: runs them again."""
        recent = [commit for _, commit in self._recent]
        self._recent.clear()
        self._waiting.extend(recent)
        self._unwritten.extend(recent)
        self._try()

    def hurry(self) -> None:
        """Redis is back: runs again what it may have forgotten, and all that waits, at once."""
        self._is_back.set()
        self.repeat()

    def waits(self, redis_key: str) -> bool:
        """Whether a commit waits that writes this key."""
        return any(redis_key in commit.keys for commit in self._waiting)

    async def aclose(self) -> None:
        """One last try; what still waits is on the disk afterwards."""
        self._is_closing = True
        if self._trying is not None:
            await end([self._trying])
        try:
            await self._count()
        except StoreUnavailable:
            await self._write()
            log.error("%d answers are not counted: the store is away", len(self._waiting))  # noqa: TRY400 - no trace
        if self._spool is not None:
            self._spool.close()

    async def _keep(self, commit: Commit) -> None:
        self._try_later([commit])  # first: what is written must not be cleared before it has its turn
        self._unwritten.append(commit)
        await self._write()

    async def _write(self) -> None:
        """Returns when all that waits is on the disk, or can't be: that is logged."""
        async with self._writing:
            commits, self._unwritten = self._unwritten, []
            if self._spool is None or not commits:
                return
            try:
                self._at("spooling")
                await self._spool.append(*commits)
                self._at("spooled")
            except OSError as problem:
                log.error("%d counts are not on the disk: %s", len(commits), problem.strerror)  # noqa: TRY400 - no trace
            if not self._waiting:
                self._clear()  # they had their turn meanwhile

    def _try_later(self, commits: Iterable[Commit]) -> None:
        for commit in commits:
            if len(self._waiting) >= MOST:
                log.error("an answer is not counted before the next start: too many wait for the store")
                self._has_more_on_disk = True
                break
            self._waiting.append(commit)
        self._try()

    def _try(self) -> None:
        if self._waiting and not self._is_closing and (self._trying is None or self._trying.done()):
            self._trying = asyncio.create_task(self._try_again())

    async def _try_again(self) -> None:
        while self._waiting:
            self._is_back.clear()
            try:
                await self._count()
            except StoreUnavailable:
                await self._write()  # nobody knows whether this process or Redis is back first
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_back.wait(), self._pause_s)

    async def _count(self) -> None:
        while self._waiting:
            commit = self._waiting[0].again()
            self._at("replaying")
            await self._store.run(commit.script, commit.keys, commit.args)
            self._at("replayed")
            self._waiting.popleft()
            self._recent.append((time.monotonic(), commit))
        self._clear()

    def _clear(self) -> None:
        """Redis has all that waited."""
        self._unwritten.clear()
        if self._spool is not None and not self._has_more_on_disk:
            self._spool.clear()
