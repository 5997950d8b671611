"""The JavaScript clients of tests/js as the tests drive them."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NODE = Path(sys.executable).parent / "node"
SCRIPTS = Path(__file__).parent.parent / "js"
POLLING, WEBSOCKET = {"transports": ["polling"]}, {"transports": ["websocket"]}


def burst(url: str, count: int, options: dict[str, Any] | None = None, at_once: int = 8) -> dict[str, Any]:
    """What became of `count` clients: {"ok", "websocket", "pids": {pid: clients}, "problems": {text: clients}}."""
    argument = json.dumps({"url": url, "count": count, "at_once": at_once, "options": options or {}})
    ended = subprocess.run([NODE, SCRIPTS / "burst.mjs", argument], capture_output=True, timeout=300, check=True)
    told: dict[str, Any] = json.loads(ended.stdout)
    return told


class Watched:
    """One client that stays, and what has happened to it that nobody asked for yet."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def emit(self, *event: Any) -> None:
        """Emits an event, asking for an acknowledgement."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(event) + "\n")
        self._process.stdin.flush()

    def until(self, what: str, within_s: float = 20) -> dict[str, Any]:
        """The next such thing; whatever came before it is forgotten. Raises AssertionError when it does not come."""
        deadline = time.monotonic() + within_s
        before: list[dict[str, Any]] = []
        while True:
            try:
                told = self._lines.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {what} within {within_s} s, but {before[-20:]}") from None
            if told["what"] == what:
                return told
            before.append(told)

    def end(self) -> None:
        """Ends the client; the wheel's node is a program that starts the real one, so killing it would not do."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._reading.join(10)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(json.loads(line))


@contextmanager
def watched(url: str, options: dict[str, Any] | None = None) -> Iterator[Watched]:
    """A client that stays until the context ends."""
    argument = json.dumps({"url": url, "options": options or {}})
    with subprocess.Popen(
        [NODE, SCRIPTS / "watch.mjs", argument], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        client = Watched(process)
        try:
            yield client
        finally:
            client.end()
