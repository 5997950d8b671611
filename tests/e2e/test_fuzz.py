"""The whole gateway under what Schemathesis makes of the API document: nothing breaks, every answer is documented."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.billing.accounts import Accounts, request_id, tx
from tests.e2e.conftest import gateway_with
from tests.e2e.network import AGENT, OPENAI, PETALS, PRO, Network
from tests.e2e.server import GatewayServer
from tests.e2e.wallet import new_wallet, sign_in
from tests.fakes.chain import TestChain
from tests.fakes.redis_server import RedisServer

SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "ignored_auth",
)
INFERENCE = (
    "POST /api/v1/inference",
    "POST /api/v1/inference/chat",
    "GET /api/v1/inference/stream",
    "POST /api/v1/inference/stream",
    "POST /v1/chat/completions",
    "POST /v1/completions",
)
# Random words would hardly ever name a model. `signOut` has a token of its own: the other one must stay good.
CONFIG = """\
seed = {seed}
base-url = "{url}"
continue-on-failure = true
request-timeout = 20
headers = {{ Authorization = "Bearer {token}" }}

[generation]
deterministic = {deterministic}
no-shrink = true

[output.sanitization]
enabled = false

[cache]
enabled = false

[checks.negative_data_rejection]
expected-statuses = [400, 401, 404, 413]

[parameters]
"body.model" = {{ dictionary = "models", probability = 0.8 }}
"query.model" = {{ dictionary = "models", probability = 0.8 }}
"path.model_id" = {{ dictionary = "models", probability = 0.5 }}
"body.max_tokens" = {{ dictionary = "tokens", probability = 0.8 }}
"query.max_tokens" = {{ dictionary = "tokens", probability = 0.8 }}

"path.request_id" = {{ dictionary = "requests", probability = 0.8 }}

[dictionaries.models]
values = {models}

[dictionaries.requests]
values = {requests}

[dictionaries.tokens]
values = [1, 16, 2048, 2049, 4096]

[[operations]]
include-operation-id = "signOut"
headers = {{ Authorization = "Bearer {other_token}" }}
"""


@dataclass(frozen=True)
class Report:
    """What Schemathesis says at its end."""

    exit_code: int
    output: str
    summary: dict[str, Any]

    @property
    def cases(self) -> int:
        """How many requests it made up."""
        count: int = self.summary["test_cases"]["generated"]
        return count

    def served(self, operation: str) -> int:
        """How many of an operation's valid requests were answered with 2xx."""
        phases = self.summary["valid_rates"].get(operation, {}).values()
        return sum(phase["accepted"] for phase in phases)


@pytest.fixture(scope="module")
def fuzzed(running_nodes: Network) -> Iterator[GatewayServer]:
    """A gateway whose Free quota is never used up."""
    running_nodes.reset()
    with gateway_with(running_nodes.urls, FREE_TIER_LIMIT="100000", LOG_LEVEL="info") as server:
        yield server


@dataclass(frozen=True)
class User:
    """Who asks; `requests` are ids of answers, his own among them."""

    token: str
    requests: tuple[str, ...] = ("req_1_0123456789abcdef",)


def fuzz(
    server: GatewayServer,
    folder: Path,
    *,
    examples: int,
    seed: int,
    deterministic: bool = True,
    user: User | None = None,
    paths: str = ".*",
) -> Report:
    """Drives every operation with the document's examples, its corner cases and so many random requests."""
    user = user or User(sign_in(server.url))
    config = CONFIG.format(
        seed=seed,
        deterministic=str(deterministic).lower(),
        url=server.url,
        token=user.token,
        other_token=sign_in(server.url),
        models=json.dumps([PETALS, AGENT, OPENAI, PRO, AGENT.upper()]),
        requests=json.dumps(user.requests),
    )
    (folder / "schemathesis.toml").write_text(config)
    command = [str(SCHEMATHESIS), "run", f"{server.url}/api/docs/openapi.json", "--checks", ",".join(CHECKS)]
    command += ["--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)]
    command += ["--include-path-regex", paths]
    command += ["--report", "json", "--report-json-path", "report.json"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    report = folder / "report.json"
    return Report(run.returncode, run.stdout + run.stderr, json.loads(report.read_text()) if report.exists() else {})


def assert_stands(server: GatewayServer, report: Report) -> None:
    """No check failed, every operation was driven, inference was really reached, and no handler has crashed."""
    assert report.exit_code == 0, report.output[-20_000:]
    assert report.summary["operations"]["tested"] == report.summary["operations"]["total"] > 0
    assert all(report.served(operation) > 0 for operation in INFERENCE), report.summary["valid_rates"]
    assert "Traceback" not in server.log()
    assert server.get("/ready")[0] == 200


class TestFuzz:
    def test_a_slice_of_each_operation_stands(self, fuzzed: GatewayServer, tmp_path: Path) -> None:
        report = fuzz(fuzzed, tmp_path, examples=20, seed=1)

        assert_stands(fuzzed, report)
        assert report.cases > 500

    @pytest.mark.long
    def test_ten_thousand_requests_stand(self, fuzzed: GatewayServer, tmp_path: Path) -> None:
        report = fuzz(fuzzed, tmp_path, examples=900, seed=2, deterministic=False)

        assert_stands(fuzzed, report)
        assert report.cases >= 10_000

    def test_the_payment_doors_of_a_user_who_has_paid_stand(
        self, running_nodes: Network, chain: TestChain, redis_server: RedisServer, redis_url: str, tmp_path: Path
    ) -> None:
        key = "0x" + bytes(chain.owner.key).hex()
        money = {"INFERENCE_PAYMENT_ADDRESS": chain.contract, "CHAIN_RPC_URL": chain.url, "CHAIN_WS_URL": chain.ws_url}
        with gateway_with(running_nodes.petals.url, REDIS_URL=redis_url, GATEWAY_PRIVATE_KEY=key, **money) as server:
            report = fuzz(server, tmp_path, examples=50, seed=3, user=paying_user(server, redis_url), paths="/payment/")
            log = server.log()

        assert report.exit_code == 0, report.output[-20_000:]
        assert "Traceback" not in log
        for door in ("balance", "history", "receipts/{request_id}"):
            assert report.served(f"GET /api/v1/payment/{door}") > 0, report.summary["valid_rates"]


def paying_user(server: GatewayServer, redis_url: str) -> User:
    """One with answers and settlements, and the ids of two of his answers and of somebody else's."""
    wallet, accounts = new_wallet(), Accounts(redis_url)
    for number in range(30):
        accounts.charge(wallet.address, request_id(number), 10, number)
        if number % 2:
            accounts.settle(wallet.address, 15, tx(number))
    accounts.charge("0x" + "12" * 20, request_id(99), 1, 1)
    accounts.redis.close()
    ids = (request_id(3), f"chatcmpl-{request_id(29)}", request_id(99))
    return User(sign_in(server.url, wallet), ids)
