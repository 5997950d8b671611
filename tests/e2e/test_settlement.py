"""Settling with the true processes: who has the key, who settles, and what the chain says in the end."""

from __future__ import annotations

import json
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from eth_account.signers.local import LocalAccount

from core import redis_keys
from tests.e2e.client import post
from tests.e2e.conftest import gateway_with, wait_until_all_know
from tests.e2e.network import PETALS, Network
from tests.e2e.server import ROOT, GatewayServer, eventually
from tests.e2e.test_tiers import BLOCKS_S, User
from tests.e2e.wallet import sign_in
from tests.fakes.chain import PAYMENT, TREASURY, TestChain
from tests.fakes.redis_server import RedisServer

ASKED = {"model": PETALS, "prompt": "What is a blockchain?", "max_tokens": 16}
REPORTS_KEY = "0x" + secrets.token_hex(32)
SETTLED_S = 60.0


@pytest.fixture(scope="module")
def key(chain: TestChain) -> LocalAccount:
    """The gateway's, with money for gas."""
    return chain.account()


@pytest.fixture(scope="module")
def contract(chain: TestChain, key: LocalAccount) -> str:
    """A payment contract of its own, so that nobody else uses the key."""
    return chain.deploy(PAYMENT, key.address, TREASURY)


@pytest.fixture(scope="module")
def money(chain: TestChain, contract: str, key: LocalAccount) -> dict[str, str]:
    """What a gateway with a chain is told."""
    return {
        "INFERENCE_PAYMENT_ADDRESS": contract,
        "CHAIN_RPC_URL": chain.url,
        "CHAIN_WS_URL": chain.ws_url,
        "SETTLEMENT_INTERVAL": "1s",
        "SETTLEMENT_CONFIRMATIONS": "1",
        "GATEWAY_PRIVATE_KEY": hex_of(key),
        "PRIVATE_KEY": REPORTS_KEY,
    }


@pytest.fixture(scope="module")
def paid(running_nodes: Network, money: dict[str, str]) -> Iterator[GatewayServer]:
    """All in one command."""
    running_nodes.reset()
    with gateway_with(running_nodes.petals.url, **money) as server:
        yield server


def hex_of(key: LocalAccount) -> str:
    return "0x" + bytes(key.key).hex()


def pro_user(url: str, chain: TestChain, contract: str) -> User:
    """A user who may ask and pay."""
    user = User(url, chain)
    chain.send(user.account, contract, "0xd0e30db0", 150 * 10**18)
    eventually(lambda: user.is_everywhere("pro"), BLOCKS_S)
    return user


def debited(chain: TestChain, contract: str, user: User) -> int:
    """Tokens that the chain says he paid."""
    return int(chain.read("getUserCredit", user.account.address, at=contract)[1]) // 10**12


def status(url: str) -> dict[str, Any]:
    """What the settler says of itself."""
    with redis.Redis.from_url(url) as client:
        text = client.get(redis_keys.SETTLER)
    said: dict[str, Any] = json.loads(text) if text else {}
    return said


class TestTheWholeGateway:
    def test_settles_exactly_what_its_answers_told(
        self, paid: GatewayServer, chain: TestChain, contract: str, nodes: Network
    ) -> None:
        user = pro_user(paid.url, chain, contract)
        used: int = 0
        for _ in range(3):
            answer = post(paid.url, "/api/v1/inference", ASKED, user.token)
            assert answer.status == 201, answer.body
            used += answer.json()["usage"]["total_tokens"]

        def settled() -> bool:
            chain.mine()
            return debited(chain, contract, user) == used

        eventually(settled, SETTLED_S)
        line = re.compile(rf"settled \d+ tokens of {user.account.address.lower()}: [0-9a-f]{{64}}")

        def told() -> bool:
            chain.mine()
            return line.search(paid.log()) is not None

        eventually(told, SETTLED_S)


class TestTheKeys:
    def test_are_in_no_web_worker(
        self, paid: GatewayServer, chain: TestChain, contract: str, key: LocalAccount, nodes: Network
    ) -> None:
        user = pro_user(paid.url, chain, contract)
        for _ in range(12):  # until each worker was asked
            post(paid.url, "/api/v1/inference", ASKED, user.token)

        processes = paid.workers() | {paid.fork_server()}
        having = {pid for pid in processes if knows(pid, hex_of(key), REPORTS_KEY)}
        in_environment = {pid for pid in processes if b"PRIVATE_KEY" in environment(pid)}

        assert len(processes) == 4
        assert len(having) == 1  # the background worker: it settles, and the search does find what is there
        assert in_environment == set()
        assert hex_of(key)[2:] not in paid.log()

    def test_of_the_env_file_are_in_no_web_worker_either(
        self, tmp_path: Path, running_nodes: Network, money: dict[str, str], key: LocalAccount
    ) -> None:
        (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in money.items()))
        with GatewayServer(tmp_path, {"NODE_URLS": running_nodes.petals.url, "WEB_CONCURRENCY": "2"}) as server:
            wait_until_all_know(server, 1)
            sign_in(server.url)

            processes = server.workers() | {server.fork_server()}
            having = {pid for pid in processes if knows(pid, hex_of(key))}

            assert len(processes) == 4
            assert len(having) == 1


class TestAProcessOfItsOwn:
    @pytest.mark.long
    def test_settles_beside_web_and_background_which_do_not(
        self, tmp_path: Path, running_nodes: Network, chain: TestChain, redis_server: RedisServer, contract: str,
        money: dict[str, str],
    ) -> None:  # fmt: skip
        redis_server.flush()
        env = money | {"REDIS_URL": redis_server.url, "NODE_URLS": running_nodes.petals.url, "WEB_CONCURRENCY": "1"}
        with (
            GatewayServer(tmp_path, env, (str(ROOT / "app.py"), "--web-only")) as web,
            running(tmp_path / "background", env, "workers.background"),
        ):
            wait_until_all_know(web, 1)
            user = pro_user(web.url, chain, contract)
            used = int(post(web.url, "/api/v1/inference", ASKED, user.token).json()["usage"]["total_tokens"])
            assert status(redis_server.url) == {}
            assert debited(chain, contract, user) == 0
            with running(tmp_path / "settler", env, "workers.settlement") as settler:

                def settled() -> bool:
                    chain.mine()
                    return debited(chain, contract, user) == used

                eventually(settled, SETTLED_S)
                settler.signal(signal.SIGTERM)
                assert settler.wait(5) == 0
                assert "Traceback" not in settler.log()

    @pytest.mark.long
    def test_compares_on_demand(
        self, tmp_path: Path, chain: TestChain, redis_server: RedisServer, money: dict[str, str]
    ) -> None:
        redis_server.flush()
        env = money | {"REDIS_URL": redis_server.url}
        assert compare(tmp_path, env) == (
            78,
            "",
            "Nothing can be compared now: the settler's journal is being made anew\n",
        )
        with running(tmp_path / "settler", env, "workers.settlement"):

            def is_ready() -> bool:
                chain.mine()
                return bool(status(redis_server.url).get("state") == "ok")

            eventually(is_ready, SETTLED_S)
        with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
            users = client.smembers(redis_keys.SETTLED)
            assert compare(tmp_path, env) == (0, f"{len(users)} users, 0 differ\n", "")
            name = "0x" + "ab" * 20
            client.sadd(redis_keys.SETTLED, name)
            client.hset(redis_keys.credit(name), "settled", 5)

            code, said, _ = compare(tmp_path, env)

        assert code == 1
        assert said.splitlines() == [
            f"{name}: 5 tokens settled, 0 debited on the chain", f"{len(users) + 1} users, 1 differ",
        ]  # fmt: skip

    def test_without_a_key_says_so_and_stays(
        self, tmp_path: Path, redis_server: RedisServer, money: dict[str, str]
    ) -> None:
        redis_server.flush()
        env = {name: value for name, value in money.items() if "PRIVATE_KEY" not in name}
        with running(tmp_path, env | {"REDIS_URL": redis_server.url}, "workers.settlement") as settler:
            told = "stopped: GATEWAY_PRIVATE_KEY is not set"
            eventually(lambda: status(redis_server.url).get("state") == told)
            assert told in settler.log()

    def test_explains_itself(self, tmp_path: Path) -> None:
        said = subprocess.run(
            [sys.executable, "-m", "workers.settlement", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout

        assert "reconcile" in said


@contextmanager
def running(folder: Path, env: dict[str, str], module: str) -> Iterator[GatewayServer]:
    """One process besides the web workers."""
    folder.mkdir(exist_ok=True)
    server = GatewayServer(folder, env, ("-m", module))
    server.launch()
    try:
        yield server
    finally:
        server.stop()


def compare(folder: Path, env: dict[str, str]) -> tuple[int, str, str]:
    """`python -m workers.settlement reconcile`: exit code, what it says, and what is wrong."""
    given = {
        "PATH": str(Path(sys.executable).parent),
        "PYTHONPATH": str(ROOT),
        "JWT_SECRET": "s" * 32,
        "NODE_URLS": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "workers.settlement", "reconcile"]
    done = subprocess.run(
        command, cwd=folder, env=given | env | {"LOG_LEVEL": "error"}, capture_output=True, text=True, check=False
    )
    said = [line for line in done.stdout.splitlines(keepends=True) if "ERROR" not in line]
    return done.returncode, "".join(said), done.stderr


def environment(pid: int) -> bytes:
    """What a process was started with."""
    return Path(f"/proc/{pid}/environ").read_bytes()


def knows(pid: int, *keys: str) -> bool:
    """Whether one of the keys is in a process' memory, as text of either case or as bytes."""
    forms = [form for key in keys for form in (key[2:].encode(), key[2:].upper().encode(), bytes.fromhex(key[2:]))]
    maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        return any(_holds(memory, line, forms) for line in maps)


def _holds(memory: Any, line: str, forms: list[bytes]) -> bool:
    bounds, mode = line.split()[:2]
    start, end = (int(bound, 16) for bound in bounds.split("-"))
    if not mode.startswith("r"):
        return False
    try:
        memory.seek(start)
        held = memory.read(end - start)
    except (OSError, ValueError, OverflowError):
        return False
    return any(form in held for form in forms)
