"""Commits on disk while Redis is away: what was delivered is charged though the worker dies before Redis is back."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import threading
from collections.abc import Sequence
from io import FileIO
from pathlib import Path

import msgspec

from core.billing.commit import Commit

SUFFIX = ".jsonl"

log = logging.getLogger(__name__)


class Spool:
    """
    One file a worker in `folder`, locked as long as the worker lives; a worker that starts takes over the others.

    A line is on the disk before `append` returns. One that was cut off, by a kill or a full disk, was never promised
    to anybody, and is dropped. All methods raise OSError when the disk refuses.
    """

    def __init__(self, folder: Path, worker_id: str) -> None:
        self._folder = folder
        self._path = folder / f"{worker_id}{SUFFIX}"
        self._file: FileIO | None = None
        self._writing = threading.Lock()  # many answers end at once when Redis goes away
        self._adopted: list[tuple[Path, FileIO]] = []

    async def append(self, *commits: Commit) -> None:
        """Writes them down, a line each, all at once."""
        await asyncio.to_thread(self._append, commits)

    def adopt(self) -> list[Commit]:
        """What workers that are gone have left; their files stay until `clear`."""
        commits: list[Commit] = []
        for path in sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder.is_dir() else []:
            if path != self._path and (file := _locked(path)) is not None:
                self._adopted.append((path, file))
                commits += _read(file)
        return commits

    def clear(self) -> None:
        """Redis has all of it."""
        if self._file is not None:
            self._file.truncate(0)
        while self._adopted:
            path, file = self._adopted.pop()
            path.unlink(missing_ok=True)
            file.close()

    def close(self) -> None:
        """Lets go of the files; one that is empty is removed."""
        with self._writing:  # whoever began to write is not cut off
            if self._file is not None:
                if os.fstat(self._file.fileno()).st_size == 0:
                    self._path.unlink(missing_ok=True)
                self._file.close()
                self._file = None
        while self._adopted:
            self._adopted.pop()[1].close()

    def _append(self, commits: Sequence[Commit]) -> None:
        # Each begins its line itself: the one before may have been cut off.
        lines = b"".join(b"\n" + msgspec.json.encode(commit) for commit in commits)
        with self._writing:
            if self._file is None:
                self._file = self._create()
            if self._file.write(lines) < len(lines):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())

    def _create(self) -> FileIO:
        """Under another name until it is locked: an unlocked file is taken for a dead worker's."""
        self._folder.mkdir(parents=True, exist_ok=True)
        unlocked = self._path.with_suffix(".new")
        file = FileIO(unlocked, "a+")
        fcntl.flock(file, fcntl.LOCK_EX)
        unlocked.rename(self._path)
        folder = os.open(self._folder, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
        return file


def _locked(path: Path) -> FileIO | None:
    """The file of a dead worker; None when its worker lives, another one has taken it over, or it can't be opened."""
    try:
        file = FileIO(path, "r+")
    except FileNotFoundError:
        return None
    except OSError as problem:  # not ours to read: no reason not to start
        log.error("%s is not taken over: %s", path.name, problem.strerror)  # noqa: TRY400 - no trace
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        return None
    return file


def _read(file: FileIO) -> list[Commit]:
    commits = []
    for line in filter(None, file.readall().splitlines()):
        try:
            commits.append(msgspec.json.decode(line, type=Commit))
        except (msgspec.DecodeError, UnicodeDecodeError):  # the latter: of bytes that are no text
            log.warning("a line of the spool was not written to its end")
    return commits
