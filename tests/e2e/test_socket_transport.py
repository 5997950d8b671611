"""Socket.IO's transport: any worker and any machine serves any client, and nothing that a client does is an error."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import socketio

from bench.ports import free_port
from tests.e2e.js_clients import POLLING, WEBSOCKET, Watched, burst, watched
from tests.e2e.server import GatewayServer, eventually
from tests.fakes.balancer import Balancer, balancing
from tests.fakes.engineio_client import QUERY, Connection

PROGRAM = ("-m", "tests.e2e.socket_app", "--web-only")
ORIGIN = "https://app.example"
ENV = {"WEB_CONCURRENCY": "2", "CORS_ORIGINS": ORIGIN, "SHUTDOWN_TIMEOUT": "2s"}
TRANSPORTS = pytest.mark.parametrize("options", [{}, POLLING, WEBSOCKET], ids=["default", "polling", "websocket"])


@pytest.fixture(scope="module")
def gateway() -> Iterator[GatewayServer]:
    """One machine with two workers."""
    with running(ENV) as server:
        yield server


@pytest.fixture(scope="module")
def pair(redis_server: Any) -> Iterator[tuple[GatewayServer, GatewayServer]]:
    """Two machines, as far as they know, with two workers each and one Redis."""
    env = ENV | {"REDIS_URL": redis_server.url}
    with running(env) as one, running(env) as other:
        yield one, other


@pytest.fixture
def balancer(pair: tuple[GatewayServer, GatewayServer]) -> Iterator[Balancer]:
    """A balancer without stickiness in front of both."""
    with balancing([server.port for server in pair]) as started:
        yield started


@contextmanager
def running(env: dict[str, str]) -> Iterator[GatewayServer]:
    """A gateway with the echo namespace, in a folder of its own."""
    with (
        tempfile.TemporaryDirectory(prefix="plm-") as folder,
        GatewayServer(Path(folder), env, PROGRAM) as server,
    ):
        yield server


def states(server: GatewayServer, workers: int = 2) -> dict[int, dict[str, int]]:
    """What each worker holds, by process id."""
    found: dict[int, dict[str, int]] = {}
    while len(found) < workers:
        state = json.loads(server.get("/state")[1])
        found[state["pid"]] = state
    return found


def held(servers: tuple[GatewayServer, ...], what: str) -> int:
    """By all of their workers."""
    return sum(state[what] for server in servers for state in states(server).values())


def errors(server: GatewayServer) -> list[str]:
    """Of each error its line and what follows it, which says more."""
    lines = server.log().splitlines()
    return ["\n".join(lines[i : i + 30]) for i, line in enumerate(lines) if " ERROR " in line or "Traceback" in line]


def all_served(told: dict[str, Any], count: int, processes: int) -> None:
    """Every client got through, and every process had some of them."""
    assert told["problems"] == {}
    assert told["ok"] == count == sum(told["pids"].values())
    assert len(told["pids"]) == processes


class TestOneMachine:
    @TRANSPORTS
    def test_every_javascript_client_gets_through(self, gateway: GatewayServer, options: dict[str, Any]) -> None:
        told = burst(gateway.url, 40, options)

        all_served(told, 40, processes=2)
        assert told["websocket"] == (40 if options == {} else 0)  # counts upgrades
        assert errors(gateway) == []

    @pytest.mark.asyncio
    @pytest.mark.parametrize("transports", [None, ["polling"], ["websocket"]])
    async def test_python_clients_get_through(self, gateway: GatewayServer, transports: list[str] | None) -> None:
        served = set()
        for _ in range(10):
            async with socketio.AsyncSimpleClient() as client:
                await client.connect(gateway.url, namespace="/echo", transports=transports)
                served.add((await client.call("echo", "안녕"))["pid"])
                assert await client.receive(timeout=20) == ["echo", "안녕"]

        assert served <= states(gateway).keys()
        assert errors(gateway) == []

    @pytest.mark.long
    @TRANSPORTS
    @pytest.mark.parametrize("workers", [2, 4])
    def test_two_hundred_of_two_hundred(self, options: dict[str, Any], workers: int) -> None:
        with running(ENV | {"WEB_CONCURRENCY": str(workers)}) as server:
            all_served(burst(server.url, 200, options), 200, processes=workers)
            assert errors(server) == []


class TestManyMachines:
    @TRANSPORTS
    def test_every_javascript_client_gets_through(
        self, pair: tuple[GatewayServer, GatewayServer], balancer: Balancer, options: dict[str, Any]
    ) -> None:
        told = burst(balancer.url, 40, options)

        all_served(told, 40, processes=4)
        assert min(balancer.requests.values()) > 15  # both machines saw requests of sessions that are not theirs
        assert [errors(server) for server in pair] == [[], []]

    @pytest.mark.asyncio
    async def test_python_clients_get_through(self, balancer: Balancer) -> None:
        for _ in range(5):
            async with socketio.AsyncSimpleClient() as client:
                await client.connect(balancer.url, namespace="/echo")
                await client.call("echo", "안녕")
                assert await client.receive(timeout=20) == ["echo", "안녕"]

    def test_events_keep_their_order_through_the_relay(
        self, pair: tuple[GatewayServer, GatewayServer], balancer: Balancer
    ) -> None:
        numbers = [list(range(1000))] * 4
        got: list[list[int]] = []
        for _ in range(4):  # some of them are relayed, whichever machine each lands on
            with watched(f"{balancer.url}/echo") as client:
                client.until("upgrade")
                client.emit("count", {"to": 1000})
                got.append([client.until("event")["data"] for _ in range(1000)])

        assert got == numbers

    def test_nothing_is_left_of_clients_that_went(
        self, pair: tuple[GatewayServer, GatewayServer], balancer: Balancer
    ) -> None:
        before = held(pair, "sessions")  # other tests' polling clients, which left without a word

        burst(balancer.url, 12)

        eventually(lambda: held(pair, "sessions") <= before)
        eventually(lambda: held(pair, "connections") <= 4)  # each was asked over one

    @pytest.mark.long
    @TRANSPORTS
    def test_three_hundred_of_three_hundred_behind_haproxy(
        self, pair: tuple[GatewayServer, GatewayServer], tmp_path: Path, options: dict[str, Any]
    ) -> None:
        with haproxy(tmp_path, [server.port for server in pair]) as url:
            all_served(burst(url, 300, options), 300, processes=4)
        assert [errors(server) for server in pair] == [[], []]


def asked_again(client: Watched) -> int:
    """Who answers now. An event of the first moments may be lost: in the queue of the dead worker's port."""
    for _ in range(5):
        client.emit("echo", 2)
        with suppress(AssertionError):
            pid: int = client.until("acknowledged", within_s=4)["answer"]["pid"]
            return pid
    pytest.fail("nobody answers")


class TestDeath:
    @pytest.mark.parametrize("options", [POLLING, WEBSOCKET], ids=["polling", "websocket"])
    def test_clients_of_a_killed_worker_reconnect_to_another_one(self, options: dict[str, Any]) -> None:
        with running(ENV) as server, watched(f"{server.url}/echo", options) as client:
            client.until("connect")
            client.emit("echo", 1)
            owner = client.until("acknowledged")["answer"]["pid"]
            os.kill(owner, signal.SIGKILL)

            client.until("disconnect", within_s=5)
            client.until("connect", within_s=10)
            assert asked_again(client) != owner

    def test_a_relayed_client_of_a_killed_machine_is_let_go_at_once(self, redis_url: str) -> None:
        env = ENV | {"REDIS_URL": redis_url, "WEB_CONCURRENCY": "1"}
        with running(env) as one, running(env) as other, balancing([one.port, other.port]) as balancer:
            relayed = Connection(other.port)
            session = Connection(one.port).open_session()
            relayed.upgrade(session)
            one.signal(signal.SIGKILL)
            started = time.monotonic()

            assert relayed.receive_text() == ""
            assert time.monotonic() - started < 10
            assert Connection(other.port).ask("GET", f"{QUERY}polling&sid={session}").status == 400
            assert balancer.requests  # nobody asked it

    def test_a_session_of_nobody_is_refused_at_once(self, gateway: GatewayServer) -> None:
        for session_id in ("x" * 28, "nobody12" + "x" * 20, "../../../../etc/passwd", "%00", "\u00e9".encode().hex()):
            refused = Connection(gateway.port).ask("GET", f"{QUERY}polling&sid={session_id}")

            assert refused.status == 400
            assert json.loads(refused.body) == {"code": 1, "message": "Session ID unknown"}


class TestStop:
    @pytest.mark.parametrize("options", [POLLING, WEBSOCKET], ids=["polling", "websocket"])
    def test_idle_sessions_end_at_once_with_a_lost_connection_so_that_clients_come_back(
        self, options: dict[str, Any]
    ) -> None:
        with running(ENV | {"SHUTDOWN_TIMEOUT": "60s"}) as server, watched(f"{server.url}/echo", options) as client:
            client.until("connect")
            started = time.monotonic()
            server.signal(signal.SIGTERM)

            assert client.until("disconnect")["reason"] in ("transport close", "transport error")
            assert server.wait(25) == 0
            assert time.monotonic() - started < 25  # nothing runs, so nothing is waited for
            assert errors(server) == []

    def test_what_still_runs_when_the_time_is_up_is_ended(self) -> None:
        with running(ENV | {"SHUTDOWN_TIMEOUT": "1s"}) as server, watched(f"{server.url}/echo", WEBSOCKET) as client:
            client.until("connect")
            client.emit("count", {"to": 1000, "gap_s": 0.1})
            client.until("event")
            server.signal(signal.SIGTERM)

            assert client.until("disconnect")["reason"] == "transport close"
            assert server.wait(25) == 0
            assert errors(server) == []

    def test_a_running_websocket_goes_on_while_its_worker_drains(self) -> None:
        with running(ENV | {"SHUTDOWN_TIMEOUT": "20s"}) as server, watched(f"{server.url}/echo", WEBSOCKET) as client:
            client.until("connect")
            client.emit("count", {"to": 15, "gap_s": 0.1})
            client.until("event")
            server.signal(signal.SIGTERM)

            assert [client.until("event")["data"] for _ in range(14)] == list(range(1, 15))
            assert server.wait(25) == 0

    def test_the_meeting_folder_goes_with_the_gateway(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            with running(ENV | {"TMPDIR": name}) as server:
                (folder,) = Path(name).glob("plm-*")
                assert folder.stat().st_mode & 0o777 == 0o700
                assert len(list(folder.iterdir())) == 3  # both workers' doors, and the fork server's
                server.stop()

            assert list(Path(name).iterdir()) == []

    def test_a_folder_of_a_long_name_for_it_gives_way(self, tmp_path: Path) -> None:
        long = tmp_path / ("x" * 80)
        long.mkdir()
        with running(ENV | {"TMPDIR": str(long)}) as server:
            all_served(burst(server.url, 20, POLLING), 20, processes=2)
            assert "relayed" not in server.log()


def leave_abruptly(port: int, chance: random.Random) -> None:
    """One client that leaves without a word, at any moment of its life."""
    connection = Connection(port)
    kind = chance.randrange(6)
    if kind == 0:  # a WebSocket
        connection.upgrade()
        connection.receive_text()
        connection.send_text("40/echo,")
        if chance.random() < 0.5:
            connection.receive_text()
            connection.send_text('42/echo,["count",{"to":50}]')
    elif kind == 1:  # in the middle of an upgrade
        session_id = connection.open_session()
        connection.close()
        connection = Connection(port)
        connection.upgrade(session_id)
        if chance.random() < 0.5:
            connection.send_text("2probe")
    elif kind == 2:  # while its poll waits
        session_id = connection.open_session()
        connection.socket.sendall(connection.head("GET", f"{QUERY}polling&sid={session_id}"))
    elif kind == 3:  # while its message is on the way
        session_id = connection.open_session()
        head = connection.head("POST", f"{QUERY}polling&sid={session_id}", {"Content-Length": "100"})
        connection.socket.sendall(head + b"40/echo,")
    elif kind == 4:  # with nonsense
        connection.upgrade()
        connection.send_text(chance.choice(["", "9", "4", "45-", "42/echo,{", "b!", "\x00" * 200]) or "7")
    else:  # in the middle of its head
        connection.socket.sendall(b"GET /socket.io/?EIO=4&tr")
    time.sleep(chance.random() * 0.005)
    chance.choice([connection.reset, connection.close])()


class TestAbruptEnds:
    def test_a_hundred_of_them_leave_no_error_and_no_session(self, gateway: GatewayServer) -> None:
        leave_a_lot(gateway, 100)

    def test_a_hundred_relayed_ones_neither(
        self, pair: tuple[GatewayServer, GatewayServer], balancer: Balancer
    ) -> None:
        chance = random.Random(2)
        for _ in range(100):
            leave_abruptly(int(balancer.url.rpartition(":")[2]), chance)

        assert [errors(server) for server in pair] == [[], []]

    @pytest.mark.long
    def test_a_thousand(self) -> None:
        with running(ENV) as server:
            leave_a_lot(server, 1000)
            server.stop()
            assert errors(server) == []


def leave_a_lot(server: GatewayServer, times: int) -> None:
    chance = random.Random(times)
    burst(server.url, 4)  # both workers have met
    before = states(server)
    for _ in range(times):
        leave_abruptly(server.port, chance)

    eventually(lambda: all(state["connections"] <= 1 for state in states(server).values()), within_s=30)
    after = states(server)
    assert after.keys() == before.keys()  # nobody died of it
    assert all(after[pid]["fds"] <= before[pid]["fds"] + 2 for pid in after)
    assert errors(server) == []


class TestOrigins:
    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "null", "", "127.0.0.1", "http://127.0.0.1:1", f"{ORIGIN}.evil.example"]
    )
    def test_a_page_of_a_foreign_origin_is_refused(self, gateway: GatewayServer, origin: str) -> None:
        polling = Connection(gateway.port).ask("GET", QUERY + "polling", headers={"Origin": origin})
        upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
        upgrade |= {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Origin": origin}
        websocket = Connection(gateway.port).ask("GET", QUERY + "websocket", headers=upgrade)

        assert polling.status == websocket.status == 403
        assert "access-control-allow-origin" not in polling.headers

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_page_or_app_of_the_gateways_own_host_is_served(self, gateway: GatewayServer, scheme: str) -> None:
        own = f"{scheme}://127.0.0.1:{gateway.port}"
        answer = Connection(gateway.port).ask("GET", QUERY + "polling", headers={"Origin": own})

        assert answer.status == 200
        assert "access-control-allow-origin" not in answer.headers

    def test_a_page_of_a_known_origin_gets_each_cors_header_once(self, gateway: GatewayServer) -> None:
        answer = Connection(gateway.port).ask("GET", QUERY + "polling", headers={"Origin": ORIGIN})

        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["access-control-allow-credentials"] == "true"

    def test_a_preflight_is_answered(self, gateway: GatewayServer) -> None:
        answer = Connection(gateway.port).ask("OPTIONS", QUERY + "polling", headers={"Origin": ORIGIN})

        assert answer.status == 204
        assert answer.headers["access-control-allow-origin"] == ORIGIN


class TestLimits:
    def test_a_message_over_1_mib_is_refused(self, gateway: GatewayServer) -> None:
        connection, websocket = Connection(gateway.port), Connection(gateway.port)
        session_id = connection.open_session()
        websocket.upgrade()
        websocket.receive_text()

        refused = Connection(gateway.port).ask("POST", f"{QUERY}polling&sid={session_id}", b"4" + b"x" * 1024 * 1024)
        websocket.send_text("4" + "안" * (1024 * 1024 // 3 + 1))  # by bytes, as with polling

        assert refused.status == 413
        assert websocket.receive_text() == ""

    @pytest.mark.asyncio
    @pytest.mark.parametrize("transport", ["polling", "websocket"])
    async def test_the_longest_prompt_passes_however_it_is_escaped(
        self, gateway: GatewayServer, transport: str
    ) -> None:
        prompt = "안" * 31_998 + "🦙!"
        async with socketio.AsyncSimpleClient() as client:
            await client.connect(gateway.url, namespace="/echo", transports=[transport])
            await client.call("echo", prompt)  # this client escapes all of it

            assert await client.receive(timeout=20) == ["echo", prompt]

    def test_an_unknown_namespace_is_told_as_the_former_service_told_it(self, gateway: GatewayServer) -> None:
        websocket = Connection(gateway.port)
        websocket.upgrade()
        websocket.receive_text()
        websocket.send_text("40/nope,{}")

        assert websocket.receive_text() == '44/nope,{"message":"Invalid namespace"}'

    def test_other_versions_of_the_protocol_are_refused(self, gateway: GatewayServer) -> None:
        assert Connection(gateway.port).ask("GET", "/socket.io/?EIO=3&transport=polling").status == 400

    @pytest.mark.parametrize("host", ["[", "a b", "x" * 3000, "\x7f"])
    def test_a_nonsensical_host_is_no_error_of_ours(self, gateway: GatewayServer, host: str) -> None:
        connection = Connection(gateway.port)
        head = connection.head("GET", QUERY + "polling").replace(f"127.0.0.1:{gateway.port}".encode(), host.encode())
        connection.socket.sendall(head)

        assert connection.response().status < 500


@contextmanager
def haproxy(folder: Path, ports: list[int]) -> Iterator[str]:
    """HAProxy with round robin by request and no stickiness; skips the test where there is none."""
    program, port = haproxy_program(folder), free_port()
    env = {"LD_LIBRARY_PATH": ":".join(map(str, folder.glob("usr/lib/*-linux-gnu")))}
    servers = "".join(f"  server s{number} 127.0.0.1:{backend}\n" for number, backend in enumerate(ports))
    times = "  timeout connect 5s\n  timeout client 90s\n  timeout server 90s\n  timeout tunnel 1h\n"
    (folder / "haproxy.cfg").write_text(
        f"defaults\n  mode http\n{times}"
        f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n"
        f"backend b\n  balance roundrobin\n{servers}"
    )
    process = subprocess.Popen([program, "-f", "haproxy.cfg", "-db"], cwd=folder, env=env, start_new_session=True)
    try:
        eventually(lambda: accepts(port))
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


def haproxy_program(folder: Path) -> str:
    if (installed := shutil.which("haproxy")) is not None:
        return installed
    packages = "haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1"
    download = f"apt-get download {packages} && for package in *.deb; do dpkg -x $package .; done"
    subprocess.run(download, shell=True, cwd=folder, capture_output=True, timeout=120, check=False)
    unpacked = folder / "usr" / "sbin" / "haproxy"
    if not unpacked.exists():
        pytest.skip("there is no HAProxy on this machine, and none could be fetched")
    return str(unpacked)
