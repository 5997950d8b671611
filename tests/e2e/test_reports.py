"""Agents report to the gateway, the gateway reports to the Oracle: over HTTP, with all processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from core import redis_keys
from tests.e2e.client import JSON, Answer, bearer, call, events, post, streamed
from tests.e2e.conftest import ENV, SECRETS
from tests.e2e.network import AGENT, PETALS, PRO, Network
from tests.e2e.server import APP, DEFAULTS, ROOT, GatewayServer, eventually
from tests.e2e.wallet import sign_in
from tests.fakes.oracle_metrics import REPORT, MetricsLedger
from tests.fakes.oracle_server import Fault, OracleServer
from tests.fakes.wallet import Wallet

KEY = {"x-api-key": SECRETS["ORACLE_API_KEY"]}
OWN = Wallet(SECRETS["PRIVATE_KEY"]).address
ADDRESS = "0x14dC79964da2C08b23698B3D3cc7Ca32193d9955"
TURN_S = 30.0


def report_of(agent: str, *models: str, **changes: Any) -> dict[str, Any]:
    usual: dict[str, Any] = {
        "agentId": agent,
        "address": ADDRESS,
        "models": list(models),
        "performance": {"requests": 1, "avgLatency": 10, "errors": 0},
        "timestamp": 1795375871895,
    }
    return usual | changes


def send(url: str, body: Any, key: dict[str, str] = KEY) -> Answer:
    return call(url, "POST", "/api/v1/report", headers=JSON | key, body=json.dumps(body))


def shown(url: str, model: str) -> tuple[int, str]:
    """Nodes and status of a model, as one worker says."""
    models = call(url, "GET", "/api/v1/models").json()["models"]
    return next((entry["nodes"], entry["status"]) for entry in models if entry["id"] == model)


def wait_until_shown(url: str, model: str, expected: tuple[int, str]) -> None:
    """Until both workers say so, a new connection each."""
    eventually(lambda: all(shown(url, model) == expected for _ in range(12)))


class TestReporting:
    def test_a_report_is_taken_listed_and_counts_on_every_worker(self, url: str) -> None:
        assert shown(url, PRO) == (0, "offline")
        taken = send(url, report_of("agent-1", PRO))
        listed = call(url, "GET", "/api/v1/report/agents", headers=KEY)

        assert (taken.status, taken.json()) == (201, {"status": "ok"})
        assert (listed.status, listed.json()) == (200, {"reports": [report_of("agent-1", PRO)]})
        wait_until_shown(url, PRO, (1, "available"))

        send(url, report_of("agent-1", PRO, performance={"requests": 4, "avgLatency": 10, "errors": 3}))
        wait_until_shown(url, PRO, (1, "degraded"))

        send(url, report_of("agent-1"))
        wait_until_shown(url, PRO, (0, "offline"))

    @pytest.mark.parametrize(("method", "path"), [("POST", "/api/v1/report"), ("GET", "/api/v1/report/agents")])
    @pytest.mark.parametrize("key", [{}, {"x-api-key": "x"}, {"x-api-key": ""}, {"x-api-key": "schlüssel"}])
    def test_without_the_key_nobody_gets_in(self, url: str, method: str, path: str, key: dict[str, str]) -> None:
        answer = call(url, method, path, headers=JSON | key, body=json.dumps(report_of("agent-1")))

        assert answer.status == 401
        assert answer.json() == {"message": "Invalid API key", "error": "Unauthorized", "statusCode": 401}

    def test_what_is_malformed_is_refused_and_spoils_nothing(self, url: str) -> None:
        bad: list[Any] = [{}, report_of("a", foo=1), report_of("b", models="x"), report_of("c", timestamp="now"), []]

        assert [send(url, body).status for body in bad] == [400] * len(bad)
        assert send(url, report_of("agent-1")).status == 201
        listed = call(url, "GET", "/api/v1/report/agents", headers=KEY).json()["reports"]
        assert [report["agentId"] for report in listed] == ["agent-1"]

    def test_a_large_one_is_refused(self, url: str) -> None:
        assert send(url, report_of("a", *["m" * 100] * 1000)).status == 413

    def test_a_live_node_is_not_counted_twice_and_others_are_added(self, url: str) -> None:
        before, _ = shown(url, AGENT)
        assert before == 1
        send(url, report_of("agent-2", AGENT))

        wait_until_shown(url, AGENT, (2, "available"))
        send(url, report_of("agent-2"))
        wait_until_shown(url, AGENT, (1, "available"))


class Background:
    """A background worker of its own, which may be killed."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        with (folder / "background.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "workers.background"],
                cwd=ROOT,
                env=DEFAULTS | env,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self) -> None:
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextmanager
def oracle() -> Iterator[tuple[OracleServer, MetricsLedger]]:
    """An Oracle that does not know the gateway's wallet yet."""
    ledger = MetricsLedger(SECRETS["ORACLE_API_KEY"])
    server = OracleServer()
    server.add_routes(ledger.routes())
    with server:
        yield server, ledger


def chat(url: str, token: str) -> int:
    """One whole answer; its tokens."""
    answer = post(url, "/api/v1/inference", {"model": PETALS, "prompt": "hi", "max_tokens": 50}, token)
    assert answer.status == 201, answer.body
    return int(answer.json()["usage"]["completion_tokens"])


def stream(url: str, token: str) -> int:
    """One streamed answer; its tokens."""
    body = json.dumps({"model": AGENT, "prompt": "hi", "max_tokens": 50})
    with streamed(url, "POST", "/api/v1/inference/stream", headers=JSON | bearer(token), body=body) as answer:
        (end,) = [event for event in events(answer.read_all()) if event.name == "complete"]
    return int(json.loads(end.data)["usage"]["completion_tokens"])


class Fleet:
    """A gateway of two web workers, and one background worker after the other."""

    def __init__(
        self, gateway: GatewayServer, oracle: OracleServer, ledger: MetricsLedger, env: dict[str, str]
    ) -> None:
        self.gateway = gateway
        self.oracle = oracle
        self.ledger = ledger
        self.env = env
        self.reporter = Background(gateway.folder, env)
        self.tokens = self.answers = 0
        eventually(lambda: gateway.get("/ready")[0] == 200, TURN_S)
        self.token = sign_in(gateway.url)

    def serve(self) -> None:
        for ask in (chat, stream, chat):
            self.tokens += ask(self.gateway.url, self.token)
            self.answers += 1

    def suffer(self, turn: int) -> None:
        """Kills the reporter as soon as it has sent something that goes wrong, or right."""
        sent = self.oracle.asked(REPORT)
        self.ledger.losing = turn % 4 == 1
        self.oracle.fault = {2: Fault.ERROR, 3: Fault.HANG}.get(turn % 4)
        eventually(lambda: self.oracle.asked(REPORT) > sent, TURN_S)
        self.reporter.kill()
        self.ledger.losing, self.oracle.fault = False, None
        with redis.Redis.from_url(self.env["REDIS_URL"]) as raw:
            raw.delete(redis_keys.LEADER)  # as if the dead one's lease had run out
        self.reporter = Background(self.gateway.folder, self.env)


class TestTheOraclesTotals:
    @pytest.mark.parametrize("turns", [4, pytest.param(40, marks=pytest.mark.long)])
    def test_are_exact_though_the_reporter_is_killed_and_replies_are_lost(
        self, nodes: Network, redis_url: str, tmp_path: Path, turns: int
    ) -> None:
        env = ENV | {
            "REDIS_URL": redis_url,
            "NODE_URLS": nodes.urls,
            "GATEWAY_URL": "https://gateway.example.com",
            "METRICS_INTERVAL": "1s",
            "FREE_TIER_LIMIT": "1000",
            "NODE_PROBE_INTERVAL": "1s",
        }
        with oracle() as (server, ledger):
            env["ORACLE_API_URL"] = server.url
            with GatewayServer(tmp_path, env, (*APP, "--web-only")) as gateway:
                fleet = Fleet(gateway, server, ledger, env)
                try:
                    for turn in range(turns):
                        fleet.serve()
                        fleet.suffer(turn)
                    eventually(lambda: ledger.booked(OWN) == (fleet.tokens, fleet.answers), TURN_S)
                    time.sleep(2.5)  # nothing more is sent: nothing more was served
                finally:
                    fleet.reporter.kill()

        assert fleet.tokens >= 3 * turns * 4
        assert ledger.booked(OWN) == (fleet.tokens, fleet.answers)
        assert ledger.untrusted() == 0
        assert [body["endpoint"] for body in ledger.registrations] == ["https://gateway.example.com"]
