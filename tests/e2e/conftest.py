"""The gateway that most end-to-end tests share: two web workers, and a scripted node of each kind behind them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e import network
from tests.e2e.network import Network
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.wallet import sign_in

OPERATOR_KEY = "operator-key-for-tests"
SECRETS = {
    "OPENAI_COMPAT_API_KEY": OPERATOR_KEY,
    "PRIVATE_KEY": "0x" + "5e" * 32,
    "NODE_API_SECRET": "secret-of-the-nodes",
    "ORACLE_API_KEY": "secret-of-the-oracle",
}
ENV = {
    "WEB_CONCURRENCY": "2",
    **SECRETS,
    "STREAM_HEARTBEAT": "1s",
    "NODE_FIRST_TOKEN_TIMEOUT": "4s",
    "NODE_TOKEN_TIMEOUT": "2s",
    "NODE_PROBE_INTERVAL": "1h",  # the first round finds all nodes well; what tests do to them is not looked at
    "LOG_LEVEL": "debug",
}


@pytest.fixture(scope="session")
def running_nodes() -> Iterator[Network]:
    """The nodes, for fixtures that outlive a test."""
    with network.running() as nodes:
        yield nodes


@pytest.fixture
def nodes(running_nodes: Network) -> Iterator[Network]:
    """The nodes, well and with nothing to remember."""
    running_nodes.reset()
    yield running_nodes
    running_nodes.reset()


@pytest.fixture(scope="session")
def gateway(running_nodes: Network) -> Iterator[GatewayServer]:
    """The shared gateway, with all nodes online."""
    with gateway_with(running_nodes.urls) as server:
        yield server


@pytest.fixture
def url(gateway: GatewayServer, nodes: Network) -> str:
    """The shared gateway's address, with well nodes behind it."""
    return gateway.url


@pytest.fixture
def token(url: str) -> str:
    """Of a Free user who has asked nothing yet."""
    return sign_in(url)


@contextmanager
def gateway_with(node_urls: str, **env: str) -> Iterator[GatewayServer]:
    """A gateway of its own, once each of its workers knows the nodes online."""
    with (
        tempfile.TemporaryDirectory(prefix="plm-") as folder,
        GatewayServer(Path(folder), ENV | {"NODE_URLS": node_urls} | env) as server,
    ):
        wait_until_all_know(server, len(node_urls.split(",")))
        yield server


def wait_until_all_know(server: GatewayServer, nodes: int) -> None:
    """Each worker reads the list of nodes on its own; a new connection goes to any of them, so a few have to agree."""
    eventually(lambda: "listening on" in server.log())  # all workers are there
    known = f'"nodes":{nodes},'.encode()
    eventually(lambda: all(known in server.get("/ready")[1] for _ in range(12)))
