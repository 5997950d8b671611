"""
The demo: a small real model on a node of its own, and the gateway before it; Ctrl-C stops both.

PORT chooses another port than 3200. CHAIN=1 adds a chain with the payment contract, so that a wallet can be Pro. All
that it writes is in .devnode and data/demo.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import signal
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import TypeVar

from examples import dev_chain, dev_runtime
from examples.child import Child, ChildEnded

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
DATA = Path("data/demo")  # relative to ROOT: the path of a Unix socket below it must stay short
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
CHAIN_PORT = 26902
CHAIN_URL = f"http://127.0.0.1:{CHAIN_PORT}"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
START_S, STOP_S = 60, 30

READY = """
The gateway is ready after {seconds:.1f} s: {url}   (API documentation: {url}/api/docs)

Try it from this folder, in another terminal:

  # 1. the example client: signs in with a throw-away wallet and streams a chat
  .venv/bin/python -m examples.chat{option}

  # 2. curl
  TOKEN=$(.venv/bin/python -m examples.sign_in{option})
  curl -N {url}/v1/chat/completions -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
    -d '{{"model":"{model}","messages":[{{"role":"user","content":"What is a blockchain?"}}],"stream":true}}'

  # 3. the OpenAI SDK
  .venv/bin/python -m examples.openai_chat{option}

Logs: {data}/gateway.log and {data}/node.log. Ctrl-C stops everything.
"""
PAYMENT = """\
The payment contract is {contract}, on the chain at {chain} (id {chain_id}).
Pay in with a wallet whose key is kept, and chat as a Pro user:

  .venv/bin/python -m examples.deposit{option} --amount 150
  .venv/bin/python -m examples.chat{option} --key-file data/demo/wallet.key

What it cost is on the chain some twenty seconds later:

  TOKEN=$(.venv/bin/python -m examples.sign_in{option} --key-file data/demo/wallet.key)
  curl {url}/api/v1/payment/history -H "Authorization: Bearer $TOKEN"
"""


class DemoFailed(Exception):
    """The demo can't go on; the message is for the user."""


class Stopped(Exception):
    """The user has had enough."""


def free_port() -> int:
    """The port to serve on: PORT, or 3200. Raises DemoFailed when it can't be used."""
    given = os.environ.get("PORT") or "3200"  # noqa: TID251 - the demo has no settings of its own
    if not given.isdigit() or not 0 < int(given) < 65536:
        raise DemoFailed("PORT must be a whole number from 1 to 65535. Example: PORT=3300 make run")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", int(given)))
        except OSError as problem:
            raise DemoFailed(
                f"Port {given} can't be used: {problem.strerror}. Example: PORT=3300 make run"
            ) from problem
    return int(given)


def jwt_secret() -> str:
    """The demo's signing secret, made once, so that a token outlives a restart."""
    file = DATA / "jwt_secret"
    if not file.exists():
        fresh = file.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32))
        fresh.replace(file)
    return file.read_text()


def start_node() -> Child:
    """The node, still loading its model."""
    command = [str(dev_runtime.python()), "examples/dev_node.py"]
    return Child("node", command, DATA / "node.log", os.environ)  # noqa: TID251 - passed on as it is


def start_chain() -> Child:
    """An empty chain on the port that the settings expect it on, with a block each second: debits wait for blocks."""
    command = [str(dev_chain.anvil_binary()), "--port", str(CHAIN_PORT), "--chain-id", str(dev_chain.CHAIN_ID)]
    command += ["--block-time", "1"]
    return Child("chain", command, DATA / "chain.log", os.environ)  # noqa: TID251 - passed on as it is


def start_gateway(port: int, node_url: str, contract: str) -> Child:
    """The gateway, as `make serve` would start it, with only the demo's node and its own Redis whatever .env says."""
    settings = {
        "HOST": "127.0.0.1",
        "PORT": str(port),
        "WEB_CONCURRENCY": "2",
        "NODE_URLS": node_url,
        "JWT_SECRET": jwt_secret(),
        "PLUMISE_DATA_DIR": str(DATA),
        "INFERENCE_PAYMENT_ADDRESS": contract,
        "CHAIN_RPC_URL": CHAIN_URL,
        "CHAIN_WS_URL": CHAIN_URL.replace("http", "ws"),
        "CHAIN_ID": str(dev_chain.CHAIN_ID),
        "GATEWAY_PRIVATE_KEY": dev_chain.RICH_KEY if contract else "",
        "SETTLEMENT_INTERVAL": "10s",
    }
    unset = dict.fromkeys(("REDIS_URL", "ORACLE_API_URL", "PETALS_API_URL", "MODELS_FILE"), "")
    environ = {**os.environ, **unset, **settings}  # noqa: TID251 - passed on with the demo's own values
    return Child("gateway", [sys.executable, "app.py"], DATA / "gateway.log", environ)


def wait(children: list[Child], ready: Callable[[], T | None]) -> T:
    """What `ready` gives when it no longer gives None. Raises ChildEnded, or DemoFailed when it takes too long."""
    deadline = time.monotonic() + START_S
    while (value := ready()) is None:
        for child in children:
            child.check()
        if time.monotonic() > deadline:
            raise DemoFailed(f"The {children[-1].name} is not ready after {START_S} s; see its log in {DATA}.")
        time.sleep(0.05)
    return value


def healthy(url: str) -> bool | None:
    """True when the address answers 200, else None."""
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return None


def address(node: Child) -> str | None:
    """Where the node listens, once it has said so."""
    said = re.search(r"^(http://\S+)\n", node.output(), re.MULTILINE)
    return said[1] if said else None


def run(port: int, stack: ExitStack) -> None:
    """Starts both, tells the user, and watches them until one of them or the user ends it."""
    began = time.monotonic()
    node = start_node()
    stack.callback(node.stop, STOP_S)
    node_url = wait([node], lambda: address(node))
    wait([node], lambda: healthy(f"{node_url}/health"))
    children, contract = [node], ""
    if os.environ.get("CHAIN") == "1":  # noqa: TID251 - the demo has no settings of its own
        children.append(chain := start_chain())
        stack.callback(chain.stop, STOP_S)
        wait(children, lambda: True if "Listening on" in chain.output() else None)
        contract = dev_chain.deploy_payment_contract(CHAIN_URL)
    print(f"The model is loaded. Starting the gateway on port {port} ...", flush=True)
    gateway = start_gateway(port, node_url, contract)
    stack.callback(gateway.stop, STOP_S)
    children.append(gateway)
    wait(children, lambda: healthy(f"http://127.0.0.1:{port}/ready"))
    url = f"http://localhost:{port}"
    option = "" if port == 3200 else f" --url {url}"
    seconds = time.monotonic() - began
    print(READY.format(seconds=seconds, url=url, option=option, model=MODEL, data=DATA), flush=True)
    if contract:
        chain_id = dev_chain.CHAIN_ID
        text = PAYMENT.format(contract=contract, chain=CHAIN_URL, chain_id=chain_id, option=option, url=url)
        print(text, flush=True)
    watch(children)


def watch(children: list[Child]) -> None:
    """Returns when the user has had enough. Raises ChildEnded."""
    try:
        while True:
            for child in children:
                child.check()
            time.sleep(0.2)
    except Stopped:
        print("Stopping; answers that are being streamed may end first ...", flush=True)


def stop_on_signal(_number: int, _frame: FrameType | None) -> None:
    """Ends the demo once; a second signal must not disturb its stopping."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    raise Stopped


def main() -> None:
    """Runs the demo from the project's folder; the exit code is 0 when the user ended it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    os.chdir(ROOT)
    DATA.mkdir(parents=True, exist_ok=True)
    for number in SIGNALS:
        signal.signal(number, stop_on_signal)
    try:
        with ExitStack() as stack:
            run(free_port(), stack)
    except Stopped:  # before it was ready
        pass
    except (DemoFailed, ChildEnded, dev_runtime.InstallFailed) as problem:
        raise SystemExit(str(problem)) from None
    print("Stopped.", flush=True)


if __name__ == "__main__":
    main()
