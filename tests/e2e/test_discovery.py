"""The gateway that is told its nodes by an Oracle: a good one, one that fails, and one that lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.client import post
from tests.e2e.network import AGENT, PETALS, Network
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.wallet import sign_in
from tests.fakes.node_server import HELLO
from tests.fakes.oracle_server import NODES, Fault, OracleServer, node_row, topology_row

A, B = f"0x{'a' * 40}", f"0x{'b' * 40}"
ENV = {
    "WEB_CONCURRENCY": "2",
    "NODE_URLS": "",
    "ALLOW_PRIVATE_NODES": "true",
    "NODE_API_SECRET": "secret-of-the-nodes",
    "NODE_DISCOVERY_INTERVAL": "1h",  # only what the Oracle pushes makes it ask again
}


@pytest.fixture
def oracle() -> Iterator[OracleServer]:
    """An Oracle without nodes."""
    with OracleServer() as server:
        yield server


@contextmanager
def gateway(oracle: OracleServer, folder: Path, **env: str) -> Iterator[GatewayServer]:
    """A gateway that follows the Oracle."""
    with GatewayServer(folder, ENV | {"ORACLE_API_URL": oracle.url} | env) as server:
        oracle.wait_for_listener()
        eventually(lambda: oracle.asked(NODES) >= 2)
        yield server


def online(server: GatewayServer) -> list[str]:
    """The URLs of the nodes that are online, as one of the workers knows them."""
    return sorted(node["url"] for node in json.loads(server.get("/api/v1/nodes")[1])["nodes"])


def polled_since(oracle: OracleServer, polls: int) -> bool:
    """Whether the Oracle was polled more often than that."""
    return oracle.asked(NODES) > polls


def asked(server: GatewayServer, model: str) -> str:
    """The answer to a chat of a new user."""
    body = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
    answer = post(server.url, "/v1/chat/completions", body, sign_in(server.url))
    return str(answer.json()["choices"][0]["message"]["content"]) if answer.status == 200 else answer.body.decode()


class TestDiscovery:
    def test_a_node_serves_as_soon_as_the_oracle_tells_of_it(
        self, oracle: OracleServer, nodes: Network, tmp_path: Path
    ) -> None:
        with gateway(oracle, tmp_path) as server:
            oracle.nodes = [node_row(A, nodes.petals.url, PETALS)]
            oracle.topology = {AGENT: [topology_row(B, nodes.agent.url, AGENT)]}
            oracle.push("pipeline:nodeJoined", {"address": A, "model": PETALS})
            eventually(lambda: all(len(online(server)) == 2 for _ in range(6)))

            assert online(server) == sorted([nodes.petals.url, nodes.agent.url])
            assert [asked(server, PETALS), asked(server, AGENT)] == [HELLO, HELLO]
            assert not [one for one in nodes.petals.requests if "authorization" in one.headers]  # not the operator's

    def test_what_else_the_oracle_says_or_does_takes_no_node_away(
        self, oracle: OracleServer, nodes: Network, tmp_path: Path
    ) -> None:
        oracle.nodes = [node_row(A, nodes.petals.url, PETALS)]
        with gateway(oracle, tmp_path, NODE_DISCOVERY_INTERVAL="1s") as server:
            eventually(lambda: online(server) == [nodes.petals.url])
            for fault in (Fault.DEEP, Fault.LARGE):
                oracle.fault = fault
                polls = oracle.asked(NODES)
                eventually(partial(polled_since, oracle, polls + 1))
                assert asked(server, PETALS) == HELLO
            oracle.fault, oracle.nodes = None, []
            polls = oracle.asked(NODES)
            eventually(partial(polled_since, oracle, polls + 3))
            assert asked(server, PETALS) == HELLO
        oracle.fault = Fault.ERROR
        with gateway(oracle, tmp_path) as server:
            eventually(lambda: asked(server, PETALS) == HELLO)

    def test_private_addresses_of_the_oracle_are_never_connected_to(
        self, oracle: OracleServer, nodes: Network, tmp_path: Path
    ) -> None:
        """The operator's own node next to them may be private, and stays."""
        accepted = nodes.agent.accepted
        port = nodes.agent.port
        hosts = ["127.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "0x7f.1", "0"]
        oracle.nodes = [node_row(f"0x{n:040x}", f"http://{host}:{port}", AGENT) for n, host in enumerate(hosts)]
        own = nodes.petals.url
        with gateway(oracle, tmp_path, NODE_URLS=own, ALLOW_PRIVATE_NODES="false", NODE_PROBE_INTERVAL="1s") as server:
            eventually(lambda: online(server) == [own])
            probes = len(nodes.petals.requests)
            eventually(lambda: len(nodes.petals.requests) > probes + 1)

            assert online(server) == [own]
            assert asked(server, PETALS) == HELLO
            assert nodes.petals.requests[-1].headers["authorization"] == "Bearer secret-of-the-nodes"
            assert [
                line.count("of its nodes left out") for line in server.log().splitlines() if "left out" in line
            ] == [2]
        assert nodes.agent.accepted == accepted
