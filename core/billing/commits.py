"""Runs commits so that none is lost: neither by a Redis that is away, nor by one that has lost its last second."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from core.billing.commit import Commit
from core.billing.spool import Spool
from core.ending import end
from core.errors import StoreUnavailable
from core.steps import Step, unwatched
from core.store import Store

MOST = 10_000  # that wait
MOST_RECENT = 5_000
PAUSE_S = 1.0
WINDOW_S = 15.0  # longer than a Redis that is killed may lose: it writes its file at least once a second

log = logging.getLogger(__name__)


class Commits:
    """
    A commit that fails goes to the spool, and is tried until Redis has it. After each loss of Redis, all commits of
    the last `WINDOW_S` seconds are run again: a Redis that was killed may have forgotten them. Both are safe, since a
    commit counts once.

    Without a spool, what waits is lost with the process.
    """

    def __init__(
        self, store: Store, spool: Spool | None = None, *, pause_s: float = PAUSE_S, at: Step = unwatched
    ) -> None:
        self._store = store
        self._spool = spool
        self._pause_s = pause_s
        self._at = at
        self._recent: deque[tuple[float, Commit]] = deque(maxlen=MOST_RECENT)
        self._waiting: deque[Commit] = deque()
        self._has_more_on_disk = False
        self._trying: asyncio.Task[None] | None = None

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
            await self._keep(commit)
            self.repeat()
            raise
        now = time.monotonic()
        self._recent.append((now, commit))
        while self._recent[0][0] < now - WINDOW_S:
            self._recent.popleft()
        return reply

    def repeat(self) -> None:
        """The connection to Redis was lost, or is back: runs the latest commits again."""
        since = time.monotonic() - WINDOW_S
        recent = list(self._recent)
        self._recent.clear()
        self._try_later(commit for at, commit in recent if at >= since)

    async def aclose(self) -> None:
        """One last try."""
        if self._trying is not None:
            await end([self._trying])
        try:
            await self._count()
        except StoreUnavailable:
            log.error("%d answers are not counted: the store is away", len(self._waiting))  # noqa: TRY400 - no trace
        if self._spool is not None:
            self._spool.close()

    async def _keep(self, commit: Commit) -> None:
        self._try_later([commit])  # first: what is written must not be cleared before it has its turn
        if self._spool is None:
            return
        try:
            self._at("spooling")
            await self._spool.append(commit)
            self._at("spooled")
        except OSError as problem:
            log.error("an answer's count is not on the disk: %s", problem.strerror)  # noqa: TRY400 - no trace

    def _try_later(self, commits: Iterable[Commit]) -> None:
        for commit in commits:
            if len(self._waiting) >= MOST:
                log.error("an answer is not counted before the next start: too many wait for the store")
                self._has_more_on_disk = True
                return
            self._waiting.append(commit)
        if self._waiting and (self._trying is None or self._trying.done()):
            self._trying = asyncio.create_task(self._try_again())

    async def _try_again(self) -> None:
        while self._waiting:
            try:
                await self._count()
            except StoreUnavailable:
                await asyncio.sleep(self._pause_s)

    async def _count(self) -> None:
        while self._waiting:
            commit = self._waiting[0].again()
            self._at("replaying")
            await self._store.run(commit.script, commit.keys, commit.args)
            self._at("replayed")
            self._waiting.popleft()
            self._recent.append((time.monotonic(), commit))
        if self._spool is not None and not self._has_more_on_disk:
            self._spool.clear()
