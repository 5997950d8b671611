"""Agents behind NAT: they connect to one worker, and serve the clients of all workers and machines."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.e2e.client import bearer, call, events, post, streamed
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.wallet import sign_in
from tests.fakes.redis_server import RedisServer
from tests.fakes.relay_agent import HELLO, Fault, RelayAgent, Running, agents_loop, auth_message
from tests.fakes.wallet import Wallet

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
TEXT = "".join(HELLO)
ENV = {
    "WEB_CONCURRENCY": "2",
    "NODE_FIRST_TOKEN_TIMEOUT": "3s",
    "NODE_TOKEN_TIMEOUT": "2s",
    "NODE_PROBE_INTERVAL": "1h",
    "FREE_TIER_LIMIT": "10000",
}
BODY: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """Two workers, no node but the agents of the tests."""
    with GatewayServer(tmp_path_factory.mktemp("relay"), ENV) as server:
        yield server


@pytest.fixture(scope="module")
def loop() -> Iterator[Running]:
    with agents_loop() as running:
        yield running


@pytest.fixture(scope="module")
def token(gateway: GatewayServer) -> str:
    return sign_in(gateway.url)


@pytest.fixture
def agent(gateway: GatewayServer, loop: Running) -> Iterator[RelayAgent]:
    """An agent that all workers know."""
    joined = joined_agent(gateway, loop)
    yield joined
    loop.do(joined.leave())
    eventually(lambda: all(not nodes_at(gateway) for _ in range(8)))


def joined_agent(gateway: GatewayServer, loop: Running, wallet: Wallet | None = None) -> RelayAgent:
    agent = RelayAgent(gateway.url, wallet or Wallet(secrets.token_bytes(32)), MODEL)
    assert loop.do(agent.join()) == {"type": "auth_ok"}
    all_know(gateway, agent)
    return agent


def all_know(gateway: GatewayServer, agent: RelayAgent) -> None:
    eventually(lambda: all(agent.node_url in nodes_at(gateway) for _ in range(8)))


def nodes_at(gateway: GatewayServer) -> dict[str, Any]:
    """The nodes that one worker, whichever it is, has online."""
    listed = json.loads(gateway.get("/api/v1/nodes")[1])["nodes"]
    return {node["url"]: node for node in listed}


def ask(gateway: GatewayServer, token: str, **changes: Any) -> Any:
    answer = post(gateway.url, "/api/v1/inference/chat", BODY | changes, token)
    assert answer.status == 201, answer.body
    return answer.json()


class TestServing:
    def test_it_is_a_node_like_others(self, gateway: GatewayServer, agent: RelayAgent) -> None:
        node = nodes_at(gateway)[agent.node_url]
        models = {model["id"]: model for model in json.loads(gateway.get("/api/v1/models")[1])["models"]}

        assert node["address"] == agent.wallet.address
        assert node["status"] == "online"
        assert node["models"] == [MODEL]
        assert models[MODEL]["nodes"] == 1
        assert models[MODEL]["status"] == "available"

    def test_all_workers_ask_it(self, gateway: GatewayServer, agent: RelayAgent, token: str) -> None:
        for _ in range(12):
            answer = ask(gateway, token)

            assert answer["choices"][0]["message"]["content"] == TEXT
            assert answer["usage"]["completion_tokens"] == len(HELLO)
        assert len(agent.requests) == 12
