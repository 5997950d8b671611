"""Peers that a registry serves: each is installed once, below bench/.build, and apart from the gateway's packages."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from bench.peer import NotReady
from bench.processes import BUILD, ROOT

PYTHON = {
    "vllm-router": "vllm-router==0.1.17",
    "sglang-router": "sglang-router==0.3.2",
    "litellm": "litellm[proxy]==1.106.2",
}
SOCKET_IO = "socket.io@4.8.4"
NODE = Path(sys.executable).parent / "node"


def virtual_env(name: str) -> Path:
    """The folder of the package's programs. Raises NotReady when it can't be installed."""
    home = BUILD / name
    ready = home / ".ready"
    if not ready.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(home)])
        _run([str(home / "bin" / "pip"), "install", "-q", PYTHON[name]])
        ready.touch()
    return home / "bin"


def socket_io() -> Path:
    """The folder with the `node_modules` in which Node's socket.io is. Raises NotReady when it can't be installed."""
    home = BUILD / "socket.io"
    ready = home / ".ready"
    if not ready.exists():
        home.mkdir(parents=True, exist_ok=True)
        npm = [str(NODE.with_name("npm")), "install", "--prefix", str(home), "--silent", "--no-audit", "--no-fund"]
        _run([*npm, SOCKET_IO])
        ready.touch()
    return home


def _run(command: list[str]) -> None:
    environ = dict(os.environ)  # noqa: TID251 - passed on to pip and npm, which have settings there
    environ["PATH"] = f"{NODE.parent}:{environ['PATH']}"  # npm looks for node
    done = subprocess.run(command, check=False, cwd=ROOT, env=environ, capture_output=True, text=True)
    if done.returncode:
        raise NotReady(f"{' '.join(command[-2:])}: {done.stderr.strip()[-500:]}")
