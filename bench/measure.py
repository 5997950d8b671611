"""One measurement: a peer between mock node and load client, for one scenario."""

from __future__ import annotations

import json
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.peer import CHAT, NotReady, Peer, Start
from bench.ports import free_port
from bench.processes import LOAD_CORE, built, started, used
from bench.scenarios import TOKENS, Scenario

START_S = 10.0


@dataclass(frozen=True)
class Figures:
    """CPU in µs for each request (JSON) or chunk (streams), Redis' own apart; delays in ms; memory in MB."""

    cpu_us: float
    redis_us: float
    per_s: float
    p99_ms: float
    first_p99_ms: float
    memory_mb: float
    errors: int


@contextmanager
def mock_nodes(scenario: Scenario, count: int, folder: Path) -> Iterator[list[int]]:
    """The ports of `count` mock nodes, all of one process."""
    ports = [free_port() for _ in range(count)]
    kind = ["-a"] if scenario.is_agent else []
    command = [built("node"), *kind, "-r", str(scenario.rate), "-t", str(TOKENS), *map(str, ports)]
    with started(command, (LOAD_CORE,), folder / "node.log"):
        _wait_for(ports[-1])  # they open in this order
        yield ports


def _wait_for(port: int) -> None:
    """Raises NotReady when nobody listens in time."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.01)
    raise NotReady("the mock node does not listen")


def measured(start: Start, scenario: Scenario, seconds: float, nodes: int = 1) -> Figures:
    """Starts node and peer, loads it, and gives the figures of the time after the warm-up. Raises NotReady."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        with mock_nodes(scenario, nodes, folder) as ports, start(ports, folder) as peer:
            return _loaded(peer, scenario, seconds, folder)


def _loaded(peer: Peer, scenario: Scenario, seconds: float, folder: Path) -> Figures:
    body, tokens = folder / "request.json", folder / "tokens"
    body.write_text(scenario.body())
    tokens.write_text("\n".join(peer.tokens))
    options = [peer.port, scenario.connections, scenario.warm_s, seconds, body, tokens, CHAT]
    command = ["taskset", "-c", str(LOAD_CORE), built("load"), scenario.mode, *map(str, options)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        try:
            client.stdout.readline()  # "measuring"
            before = used(peer.pid)
            last = client.stdout.readline()
            after = used(peer.pid)
        finally:
            client.terminate()
    if not last:
        raise NotReady("the load client failed")
    result = json.loads(last)
    is_json = scenario.mode == "json"
    units = max(1, result["answers" if is_json else "chunks"])
    return Figures(
        cpu_us=(after.cpu_s - before.cpu_s) * 1e6 / units,
        redis_us=(after.redis_s - before.redis_s) * 1e6 / units,
        per_s=units / seconds,
        p99_ms=result["answer_p99" if is_json else "delay_p99"] / 1000,
        first_p99_ms=result["first_p99"] / 1000,
        memory_mb=after.memory / 1e6,
        errors=result["errors"],
    )
