"""Two gateways over one Redis: what one worker meets at a node, all of them know."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.client import bearer, post, streamed
from tests.e2e.conftest import ENV
from tests.e2e.network import AGENT, TWINS, Network
from tests.e2e.server import GatewayServer, eventually
from tests.e2e.wallet import sign_in
from tests.fakes.node_server import Fault
from tests.fakes.redis_server import RedisServer

ASK = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64}


class Fleet:
    """Two gateways with two web workers each, and a background worker each."""

    def __init__(self, gateways: list[GatewayServer]) -> None:
        self.gateways = gateways

    def all_say(self, path: str, name: str, found: dict[str, Any]) -> bool:
        """Whether every worker's answer has, in its list, an entry like this; a dozen answers come from all four."""
        return all(
            any(entry.items() >= found.items() for entry in json.loads(gateway.get(path)[1])[name])
            for gateway in self.gateways
            for _ in range(6)
        )

    def all_count(self, model: str, nodes: int) -> bool:
        """Whether every worker knows so many online nodes of the model."""
        return self.all_say("/api/v1/models", "models", {"id": model, "nodes": nodes})

    def ready(self) -> list[dict[str, Any]]:
        """Each gateway's own word."""
        return [json.loads(gateway.get("/ready")[1]) for gateway in self.gateways]


@pytest.fixture(scope="module")
def fleet(running_nodes: Network) -> Iterator[Fleet]:
    """Over a Redis of their own."""
    env = {
        **ENV,
        "NODE_URLS": running_nodes.urls,
        "NODE_PROBE_INTERVAL": "1s",
        "FREE_TIER_LIMIT": "1000",
    }
    with ExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="plm-"))) for _ in range(3)]
        redis = RedisServer(folders[2])
        redis.start()
        stack.callback(redis.stop)
        env["REDIS_URL"] = redis.url
        gateways = [GatewayServer(folder, env) for folder in folders[:2]]
        for gateway in gateways:
            gateway.launch()
            stack.callback(gateway.stop)
        for gateway in gateways:
            gateway.wait_until_up()
        yield Fleet(gateways)


@pytest.fixture(autouse=True)
def all_online(fleet: Fleet, nodes: Network) -> None:
    """Every worker knows all nodes online."""
    eventually(lambda: fleet.all_count(TWINS, 2) and fleet.all_count(AGENT, 1), within_s=30)


class TestSharedHealth:
    def test_one_background_worker_leads_and_all_say_which(self, fleet: Fleet) -> None:
        said = [(report["leader"], report["background"] is not None) for report in fleet.ready()]

        assert said[0] == said[1]
        assert said[0][0]
        assert said[0][1]

    def test_one_prober_asks_each_node(self, fleet: Fleet, nodes: Network) -> None:
        nodes.agent.requests.clear()
        eventually(lambda: len(nodes.agent.requests) >= 1)
        first = time.monotonic()
        eventually(lambda: len(nodes.agent.requests) >= 4)

        assert time.monotonic() - first > 2.0  # three rounds of one prober; two would take half of that

    def test_a_node_that_can_not_serve_is_offline_for_all_workers_and_comes_back(
        self, fleet: Fleet, nodes: Network
    ) -> None:
        nodes.agent.fault = Fault.STATUS_LOADING
        eventually(lambda: fleet.all_count(AGENT, 0))
        nodes.agent.fault = None

        eventually(lambda: fleet.all_count(AGENT, 1))

    def test_an_agent_that_streams_for_us_stays_online_whatever_its_probes_say(
        self, fleet: Fleet, nodes: Network
    ) -> None:
        url = fleet.gateways[0].url
        nodes.agent.answers, nodes.agent.delay_s = ([f"{number} " for number in range(30)],), 0.2
        body = json.dumps(ASK | {"model": AGENT})
        headers = bearer(sign_in(url)) | {"Content-Type": "application/json"}
        with streamed(url, "POST", "/api/v1/inference/stream", headers=headers, body=body) as stream:
            stream.read_until(b"data:")
            probes = len(nodes.agent.requests)
            nodes.agent.fault = Fault.ERROR  # of /health: 500; the answer goes on
            eventually(lambda: len(nodes.agent.requests) >= probes + 4)
            assert fleet.all_count(AGENT, 1)
            found = {"url": nodes.agent.url, "status": "online", "inFlight": 1}
            eventually(lambda: fleet.all_say("/api/v1/nodes", "nodes", found))

    def test_failures_that_are_spread_over_four_workers_put_a_node_out_for_all_of_them(
        self, fleet: Fleet, nodes: Network
    ) -> None:
        bad, good = nodes.twins
        bad.fault = Fault.UNAUTHORISED  # its /health is well
        tokens = [sign_in(gateway.url) for gateway in fleet.gateways]

        def ask() -> None:
            for gateway, token in zip(fleet.gateways, tokens, strict=True):
                assert post(gateway.url, "/api/v1/inference/chat", ASK | {"model": TWINS}, token).status == 201

        while len(bad.generated) < 5:
            ask()
        eventually(lambda: "is left out for a while" in "".join(gateway.log() for gateway in fleet.gateways))
        failed = len(bad.generated)  # one more than five when both gateways met it in the last round
        eventually(lambda: fleet.all_say("/api/v1/nodes", "nodes", {"url": bad.url, "failedRequests": failed}))
        met, served = len(bad.generated), len(good.generated)
        for _ in range(12):
            ask()

        assert (len(bad.generated), len(good.generated)) == (met, served + 24)
