"""Flame graphs of the gateway under each scenario, by py-spy, into bench/out: `python -m bench.flames`."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.gateway import gateway
from bench.measure import measured
from bench.peer import Peer
from bench.processes import BUILD, LOAD_CORE, ROOT, started
from bench.scenarios import SCENARIOS

OUT = ROOT / "bench" / "out"
SECONDS = 10
PY_SPY = "py-spy==0.4.1"


def py_spy() -> str:
    """The path of py-spy, in a virtual environment of its own."""
    home = BUILD / "py-spy"
    program = home / "bin" / "py-spy"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "-q", PY_SPY], check=True)
    return str(program)


def flame(scenario: str, program: str) -> Path:
    """Loads the gateway and gives the graph of its processes in the meantime."""
    picture = OUT / f"{scenario}.svg"
    options = ["--subprocesses", "--native", "--rate", "200", "--duration", str(SECONDS), "--output", str(picture)]

    @contextmanager
    def watched(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
        with gateway(nodes, folder) as peer:
            command = [program, "record", "--pid", str(peer.pid), *options]
            with started(command, (LOAD_CORE,), OUT / f"{scenario}.log"):
                yield peer
                _wait_for(picture)

    picture.unlink(missing_ok=True)
    measured(watched, SCENARIOS[scenario], SECONDS)
    return picture


def _wait_for(picture: Path) -> None:
    deadline = time.monotonic() + SECONDS + 30
    while not picture.exists() and time.monotonic() < deadline:
        time.sleep(0.2)


def main() -> None:
    """One graph a scenario."""
    BUILD.mkdir(exist_ok=True)
    OUT.mkdir(exist_ok=True)
    program = py_spy()
    for scenario in SCENARIOS:
        picture = flame(scenario, program)
        print(picture if picture.exists() else f"{scenario}: no graph; see {OUT}/{scenario}.log", flush=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
