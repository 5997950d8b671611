"""Other relays and gateways as peers: what each is told, and nothing that would slow it down."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.packages import NODE, socket_io, virtual_env
from bench.peer import CHAT, NotReady, Peer, status, wait
from bench.ports import free_port
from bench.processes import PEER_CORE, started
from bench.scenarios import MODEL

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
LITELLM = """
model_list:
  - model_name: {model}
    litellm_params: {{model: "openai/{model}", api_base: "http://127.0.0.1:{node}/v1", api_key: none}}
litellm_settings: {{telemetry: false, num_retries: 0, drop_params: true, set_verbose: false}}
general_settings: {{master_key: {key}, disable_spend_logs: true}}
"""
LITELLM_KEY = "sk-bench"
LITELLM_ENVIRON = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_TELEMETRY": "False",
    "DISABLE_ADMIN_UI": "True",
}
LITELLM_START_S = 120


@contextmanager
def bare(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """The bare relay."""
    port = free_port()
    with _relay([sys.executable, "bench/bare_relay.py", str(port), f"http://127.0.0.1:{nodes[0]}"], port, folder) as it:
        yield it


@contextmanager
def floor(step: str, nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """What no gateway of this stack can cost less than; `step` is one of floor.py's."""
    port = free_port()
    with _relay([sys.executable, "-m", "bench.floor", step, str(port), str(nodes[0])], port, folder) as it:
        yield it


@contextmanager
def nginx(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """nginx as a raw relay without buffering, its connections to the node kept."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if program is None:
        raise NotReady("nginx is not installed")
    port = free_port()
    config = folder / "nginx.conf"
    config.write_text(NGINX.format(folder=folder, node=nodes[0], port=port))
    with _relay([program, "-e", f"{folder}/nginx.error", "-c", str(config)], port, folder) as it:
        yield it


@contextmanager
def vllm_router(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """vLLM's router: Rust; it parses the body and looks after its workers, and checks nobody."""
    port, command = _router([str(virtual_env("vllm-router") / "vllm-router")], nodes[0])
    with _relay([*command, "--log-level", "warning"], port, folder) as it:
        yield it


@contextmanager
def sglang_router(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """SGLang's router: Rust, the same."""
    python = virtual_env("sglang-router") / "python"
    port, command = _router([str(python), "-m", "sglang_router.launch_router"], nodes[0])
    with _relay([*command, "--log-level", "warn"], port, folder) as it:
        yield it


@contextmanager
def litellm(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """LiteLLM's proxy: Python; it checks one fixed key, and has no database."""
    port = free_port()
    config = folder / "litellm.yaml"
    config.write_text(LITELLM.format(model=MODEL, node=nodes[0], key=LITELLM_KEY))
    command = [str(virtual_env("litellm") / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    command += ["--port", str(port), "--num_workers", "1", "--telemetry", "False"]
    environ = {**LITELLM_ENVIRON, "HOME": str(folder)}
    with _relay(command, port, folder, environ, LITELLM_KEY, LITELLM_START_S) as it:
        yield it


@contextmanager
def socketio_python(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """python-socketio on Sanic, one emit for each token."""
    port = free_port()
    command = [sys.executable, "bench/socket_relay.py", str(port), f"http://127.0.0.1:{nodes[0]}"]
    with _started(command, port, folder) as peer:
        wait(lambda: status(peer.url) != 0, folder / "peer.log")
        yield peer


@contextmanager
def socketio_node(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """Node's socket.io, one emit for each token."""
    port = free_port()
    command = [str(NODE), "bench/socket_relay.cjs", str(port), str(nodes[0])]
    with _started(command, port, folder, {"NODE_PATH": str(socket_io() / "node_modules")}) as peer:
        wait(lambda: status(peer.url) != 0, folder / "peer.log")
        yield peer


def _router(command: list[str], node: int) -> tuple[int, list[str]]:
    port, metrics = free_port(), free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--worker-urls", f"http://127.0.0.1:{node}"]
    options += ["--policy", "round_robin", "--prometheus-host", "127.0.0.1", "--prometheus-port", str(metrics)]
    return port, [*command, *options]


@contextmanager
def _relay(
    command: list[str],
    port: int,
    folder: Path,
    environ: Mapping[str, str] = {},
    token: str = "none",
    patience_s: float = 30,
) -> Iterator[Peer]:
    with _started(command, port, folder, environ, token) as peer:
        wait(lambda: status(peer.url + CHAT, token) == 200, folder / "peer.log", patience_s)
        yield peer


@contextmanager
def _started(
    command: list[str], port: int, folder: Path, environ: Mapping[str, str] = {}, token: str = "none"
) -> Iterator[Peer]:
    with started(command, (PEER_CORE,), folder / "peer.log", environ) as pid:
        yield Peer(pid, port, (token,))
