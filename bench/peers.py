"""The peers: how each is started between the load client and the mock node."""

from __future__ import annotations

import shutil
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import PEER_CORE, free_ports, started
from bench.scenarios import SCENARIOS
from examples.sign_in import sign_in, wallet

CHAT = "/v1/chat/completions"
WALLETS = 32  # as many as there may be, so that no one's window of requests grows long
START_S = 30
UNSET = ("REDIS_URL", "ORACLE_API_URL", "PETALS_API_URL", "MODELS_FILE", "INFERENCE_PAYMENT_ADDRESS", "PRIVATE_KEY")


class NotReady(Exception):
    """A peer can't be measured; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A running peer: the root of its process tree, its port, and the tokens that it knows."""

    pid: int
    port: int
    tokens: Sequence[str] = ("none",)


Start = Callable[[Sequence[int], Path], AbstractContextManager[Peer]]


@contextmanager
def gateway(
    nodes: Sequence[int], folder: Path, workers: int = 1, redis_url: str = "", cores: Sequence[int] = (PEER_CORE,)
) -> Iterator[Peer]:
    """This repository's gateway with all that it does for a Free wallet, and a Redis of its own unless one is given."""
    (port,) = free_ports(1)
    environ = {
        **dict.fromkeys(UNSET, ""),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": str(workers),
        "JWT_SECRET": "only-the-benchmark-signs-with-this",
        "NODE_URLS": ",".join(f"http://127.0.0.1:{node}" for node in nodes),
        "REDIS_URL": redis_url,
        "PLUMISE_DATA_DIR": str(folder),
        "FREE_TIER_LIMIT": "100000",
        "FREE_TIER_WINDOW": "10s",
    }
    with started([sys.executable, "app.py"], cores, folder / "gateway.log", environ) as pid:
        url = f"http://127.0.0.1:{port}"
        _wait(lambda: _status(f"{url}/api/v1/health") == 200, folder / "gateway.log")
        tokens = [sign_in(url, wallet(None)) for _ in range(WALLETS)]
        _wait(lambda: _status(url + CHAT, tokens[0]) == 200, folder / "gateway.log")
        yield Peer(pid, port, tokens)


@contextmanager
def bare(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """The bare relay."""
    (port,) = free_ports(1)
    command = [sys.executable, "bench/bare_relay.py", str(port), f"http://127.0.0.1:{nodes[0]}"]
    with started(command, (PEER_CORE,), folder / "bare.log") as pid:
        _wait(lambda: _status(f"http://127.0.0.1:{port}{CHAT}", "none") == 200, folder / "bare.log")
        yield Peer(pid, port)


NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.error;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  keepalive_requests 10000000;
  upstream node {{ server 127.0.0.1:{node}; keepalive 1024; keepalive_requests 10000000; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    location / {{ proxy_pass http://node; }}
  }}
}}
"""


@contextmanager
def nginx(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """nginx as a raw relay without buffering, its connections to the node kept."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise NotReady("nginx is not installed")
    (port,) = free_ports(1)
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, node=nodes[0], port=port))
    with started(
        [program, "-e", f"{folder}/nginx.error", "-c", str(config)], (PEER_CORE,), folder / "nginx.log"
    ) as pid:
        _wait(lambda: _status(f"http://127.0.0.1:{port}{CHAT}", "none") == 200, folder / "nginx.log")
        yield Peer(pid, port)


PEERS: dict[str, Start] = {"gateway": gateway, "bare": bare, "nginx": nginx}


def _wait(ready: Callable[[], bool], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while not ready():
        if time.monotonic() > deadline:
            raise NotReady(f"not ready after {START_S} s:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def _status(url: str, token: str = "") -> int:
    """The status of a GET, or with a token of a chat; 0 when nobody answers."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"} if token else {}
    request = urllib.request.Request(url, SCENARIOS["json"].body().encode() if token else None, headers)
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refusal:
        return refusal.code
    except OSError:
        return 0
