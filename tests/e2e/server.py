"""The true gateway for tests: all of its processes, on a free port, gone at the end whatever happens."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.ports import free_port
from workers import child

ROOT = Path(__file__).parent.parent.parent
APP = (str(ROOT / "app.py"),)
START_S, STOP_S = 30.0, 30.0
DEFAULTS = {
    "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": str(ROOT),
    "HOST": "127.0.0.1",
    "JWT_SECRET": "a-secret-for-tests-of-32-bytes-or-more",
    "NODE_URLS": "http://127.0.0.1:9",
    "PLUMISE_DATA_DIR": "data",
}


def eventually(true: Callable[[], bool], within_s: float = 10.0) -> None:
    """Waits until something is so. Raises AssertionError when it is not in time."""
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s"
        time.sleep(0.02)


class GatewayServer:
    """
    `python app.py` with the given environment, in `folder` (where its data and its log go).

    Nothing of the developer's own environment reaches it. Use it as a context manager, or `launch` and `stop`.
    """

    def __init__(
        self, folder: Path, env: Mapping[str, str] | None = None, program: Sequence[str] = APP, port: int | None = None
    ) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = {**DEFAULTS, "PORT": str(self.port), **(env or {})}
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]  # it ends with the test run
        self._command = [*launcher, sys.executable, *program]
        self._log = folder / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.launch()
        self.wait_until_up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def launch(self) -> None:
        """Starts the processes without waiting for them."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, cwd=self.folder, env=self._env, stdout=log, stderr=log, start_new_session=True
            )

    def wait_until_up(self) -> None:
        """Until every worker serves: a port that accepts connections is no server yet."""
        deadline = time.monotonic() + START_S
        while not (self._says_that_it_listens() and self.answers()):
            assert self._main.poll() is None, f"ended with {self._main.returncode}:\n{self.log()}"
            assert time.monotonic() < deadline, f"did not start:\n{self.log()}"
            time.sleep(0.02)

    def _says_that_it_listens(self) -> bool:
        return "listening on" in self.log() or self._env.get("LOG_LEVEL") in ("warning", "error")

    def answers(self) -> bool:
        """Whether /health answers 200 on a new connection."""
        with suppress(OSError, http.client.HTTPException):
            return self.get("/health")[0] == 200
        return False

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of one GET on a new connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    @property
    def pid(self) -> int:
        """The main process."""
        return self._main.pid

    def pids(self) -> dict[int, str]:
        """Every living process of it with its command line, the main process and the embedded Redis among them."""
        return {self.pid: "main", **descendants(self.pid)}

    def workers(self) -> set[int]:
        """The web workers and the background worker."""
        server = self.fork_server()
        return set(descendants(server)) if server else set()

    def fork_server(self) -> int:
        """The process that all workers are forked from; 0 while there is none."""
        return next((pid for pid, command in self.pids().items() if "forkserver" in command), 0)

    def redis(self) -> int:
        """The embedded Redis; 0 while there is none."""
        return next((pid for pid, command in self.pids().items() if "redis-server" in command), 0)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Signals the main process, or its whole process group as a platform or shell does."""
        (os.killpg if group else os.kill)(self.pid, number)

    def wait(self, within_s: float = STOP_S) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        return self._main.wait(within_s)

    def stop(self) -> int:
        """SIGTERM, and SIGKILL to all that is left of it; the exit code."""
        left = self.pids()
        with suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
        try:
            return self.wait()
        except subprocess.TimeoutExpired:
            for pid in left | self.pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return self.wait()

    def log(self) -> str:
        """All that it has written so far."""
        return self._log.read_text("utf-8", "replace")

    @property
    def _main(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "it was not launched"
        return self._process


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits for its parent to notice its end does not."""
    return any(pid == living for living, *_ in _processes())


def descendants(pid: int) -> dict[int, str]:
    """The living processes that one started, directly or not, each with its command line."""
    found: dict[int, str] = {}
    parents = {pid}
    while children := {child: command for child, parent, command in _processes() if parent in parents}:
        found |= children
        parents = set(children)
    return found


def _processes() -> list[tuple[int, int, str]]:
    """Process id, parent and command line of all that run on this machine, from proc(5)."""
    found = []
    for folder in Path("/proc").iterdir():
        with suppress(OSError, ValueError):
            state, parent = (folder / "stat").read_text().rpartition(")")[2].split()[:2]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if state not in "ZX":
                found.append((int(folder.name), int(parent), command))
    return found
