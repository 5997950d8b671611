"""The gateway as a platform sees it: processes that start, die, come back and end."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from app import url_of
from bench.ports import free_port
from tests.e2e.server import DEFAULTS, ROOT, GatewayServer, descendants, eventually, is_alive
from tests.e2e.sse import Stream

STREAMING = ("-m", "tests.e2e.streaming_app")
SMALL = (*STREAMING, "--web-only")  # starts in half the time, with ONE worker
ONE = {"WEB_CONCURRENCY": "1"}
TERM, KILL = signal.SIGTERM, signal.SIGKILL
WHOLE = [f"data: {number}" for number in range(15)] + ["data: [DONE]"]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayServer]:
    """One server for all tests that leave it as it was: two web workers, the background worker, a Redis."""
    with GatewayServer(tmp_path_factory.mktemp("gateway"), program=STREAMING) as server:
        yield server


def worker_pid(server: GatewayServer) -> int:
    return int(json.loads(server.get("/process")[1])["pid"])


def web_workers(server: GatewayServer) -> set[int]:
    seen: set[int] = set()
    eventually(lambda: len(seen.add(worker_pid(server)) or seen) >= 2)  # type: ignore[func-returns-value] # add, then look
    return seen


def kill_web_worker(server: GatewayServer) -> tuple[int, int]:
    """Kills one; gives it and the other one as soon as main has noticed, long before the new one is there."""
    killed, other = web_workers(server)
    os.kill(killed, KILL)
    eventually(lambda: not is_alive(killed))
    time.sleep(0.3)
    return killed, other


def background_worker(server: GatewayServer) -> int:
    (pid,) = server.workers() - web_workers(server)
    return pid


class TestStart:
    def test_one_line_says_where_it_listens_and_with_how_many_workers(self, gateway: GatewayServer) -> None:
        lines = [line for line in gateway.log().splitlines() if "listening" in line]

        assert len(lines) == 1
        assert lines[0].endswith(f"listening on {gateway.url}, 2 workers")

    @pytest.mark.parametrize(
        ("host", "url"), [("::", "http://[::]:3200"), ("::1", "http://[::1]:3200"), ("gateway", "http://gateway:3200")]
    )
    def test_that_is_a_url_for_any_host(self, host: str, url: str) -> None:
        assert url_of(host, 3200) == url

    def test_connections_are_spread_evenly(self, gateway: GatewayServer) -> None:
        shares = Counter(worker_pid(gateway) for _ in range(200))

        assert len(shares) == 2
        assert min(shares.values()) > 60  # a fair coin is below that once in 100 million times

    def test_the_background_worker_beats(self, gateway: GatewayServer) -> None:
        eventually(lambda: json.loads(gateway.get("/ready")[1])["background"] is not None)

    def test_a_port_that_is_taken_is_refused_in_one_line(self, gateway: GatewayServer, tmp_path: Path) -> None:
        second = GatewayServer(tmp_path, port=gateway.port)

        second.launch()

        assert second.wait() == 1
        assert second.log() == f"HOST, PORT: can't listen on 127.0.0.1:{gateway.port}: Address already in use\n"

    def test_web_only_brings_a_redis_but_says_that_no_background_worker_reaches_it(self, tmp_path: Path) -> None:
        with GatewayServer(
            tmp_path, program=(str(ROOT / "app.py"), "--web-only"), env={"WEB_CONCURRENCY": "1"}
        ) as server:
            assert len(server.workers()) == 1
            assert server.redis()
            assert "no background worker can reach it" in server.log()

    def test_workers_that_can_not_start_end_the_whole_with_exit_code_1(self, tmp_path: Path) -> None:
        (tmp_path / "broken.py").write_text(
            "import sys, app\n"
            "def create_app():\n    raise RuntimeError('broken release')\n"
            "if __name__ == '__main__':\n    sys.exit(app.main([], create_app))\n"
        )
        server = GatewayServer(tmp_path, program=(str(tmp_path / "broken.py"),))

        server.launch()

        assert server.wait() == 1
        assert "broken release" in server.log()


class TestStop:
    @pytest.mark.parametrize(
        "signals",
        [[False], [False, False], [True], [True, True]],
        ids=["once", "twice", "to the group", "twice to the group"],
    )
    def test_running_answers_end_whole_and_new_connections_are_refused(
        self, tmp_path: Path, signals: list[bool]
    ) -> None:
        with (
            GatewayServer(tmp_path, program=STREAMING) as server,
            Stream(server.port, "/stream?n=15&gap=0.1") as stream,
        ):
            for group in signals:
                server.signal(TERM, group=group)
                time.sleep(0.2)

            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", server.port))
            assert stream.rest() == WHOLE
            assert server.wait(5) == 0
            assert "Traceback" not in server.log()

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP], ids=["Ctrl-C", "a closed terminal"])
    def test_another_signal_is_the_same(self, tmp_path: Path, number: signal.Signals) -> None:
        with (
            GatewayServer(tmp_path, ONE, SMALL) as server,
            Stream(server.port, "/stream?n=15&gap=0.1") as stream,
        ):
            server.signal(number, group=True)

            assert stream.rest() == WHOLE
            assert server.wait(5) == 0
            assert "Traceback" not in server.log()

    def test_a_closed_terminal_is_nothing_under_nohup(self, tmp_path: Path) -> None:
        (tmp_path / "nohup.py").write_text(
            "import os, signal, sys\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
            "os.execv(sys.executable, [sys.executable, '-m', 'tests.e2e.streaming_app', '--web-only'])\n"
        )
        with GatewayServer(tmp_path, ONE, (str(tmp_path / "nohup.py"),)) as server:
            before = server.workers()
            server.signal(signal.SIGHUP, group=True)
            time.sleep(0.5)

            assert server.answers()
            assert server.workers() == before

    def test_idle_connections_do_not_hold_it_up(self, tmp_path: Path) -> None:
        with GatewayServer(tmp_path, ONE, SMALL) as server:
            before, after = (http.client.HTTPConnection("127.0.0.1", server.port, timeout=5) for _ in range(2))
            before.request("GET", "/health")
            before.getresponse().read()
            after.request("GET", "/stream?n=5&gap=0.1")
            stream = after.getresponse()
            server.signal(TERM)

            assert stream.read().endswith(b"[DONE]\n\n")  # its connection is idle from here on
            assert server.wait(4) == 0
            before.close()
            after.close()

    def test_what_still_runs_at_the_end_of_the_time_is_interrupted(self, tmp_path: Path) -> None:
        with (
            GatewayServer(tmp_path, ONE | {"SHUTDOWN_TIMEOUT": "1s"}, SMALL) as server,
            Stream(server.port, "/stream?n=1000&gap=0.1") as stream,
        ):
            started = time.monotonic()
            server.signal(TERM)

            assert stream.rest()[-1] == "event: error\ndata: interrupted"
            assert 0.9 < time.monotonic() - started < 3
            assert server.wait(5) == 0

    def test_a_stuck_handler_is_cut_and_cleans_up_while_its_services_are_open(self, tmp_path: Path) -> None:
        with (
            GatewayServer(tmp_path, ONE | {"SHUTDOWN_TIMEOUT": "1s"}, SMALL) as server,
            Stream(server.port, "/stuck"),
        ):
            server.signal(TERM, group=True)

            assert server.wait(9) == 0
            assert (tmp_path / "stuck.txt").read_text() == "ok"

    @pytest.mark.long
    def test_a_worker_that_does_not_end_is_killed(self, tmp_path: Path) -> None:
        with GatewayServer(tmp_path, ONE | {"SHUTDOWN_TIMEOUT": "1s"}, SMALL) as server:
            frozen = worker_pid(server)
            os.kill(frozen, signal.SIGSTOP)
            server.signal(TERM)

            assert server.wait(12) == 1
            assert not is_alive(frozen)

    def test_a_signal_during_the_start_ends_it_soon(self, tmp_path: Path) -> None:
        starts_and_stops(tmp_path, times=4)

    @pytest.mark.long
    def test_a_signal_during_the_start_ends_it_soon_a_hundred_times(self, tmp_path: Path) -> None:
        starts_and_stops(tmp_path, times=100)


def starts_and_stops(folder: Path, times: int) -> None:
    """Signals each start at another moment; whoever was not reached yet by Python's handlers ends by the signal."""
    for turn in range(times):
        server = GatewayServer(folder, program=STREAMING)
        server.launch()
        everyone: set[int] = set()
        try:
            time.sleep(random.uniform(0, 2.5) if times > 10 else 2.5 * turn / times)
            everyone = set(server.pids())
            server.signal(TERM, group=turn % 2 == 1)

            assert server.wait(10) in (0, -TERM)
            eventually(lambda: not any(is_alive(pid) for pid in everyone))  # noqa: B023 - waits for it right here
            assert "Traceback" not in server.log()
        finally:
            server.stop()


class TestDeath:
    def test_a_killed_web_worker_comes_back(self, gateway: GatewayServer) -> None:
        killed, other = kill_web_worker(gateway)

        eventually(lambda: len(web_workers(gateway) - {killed}) == 2)

        assert other in web_workers(gateway)

    def test_meanwhile_all_new_connections_go_to_the_other_one(self, gateway: GatewayServer) -> None:
        killed, other = kill_web_worker(gateway)

        assert {worker_pid(gateway) for _ in range(20)} == {other}
        eventually(lambda: len(web_workers(gateway) - {killed}) == 2)

    def test_a_web_worker_that_was_stopped_alone_comes_back_without_keeping_clients_waiting(
        self, gateway: GatewayServer
    ) -> None:
        stopped, _ = web_workers(gateway)
        with Stream(gateway.port, "/stream?n=15&gap=0.1") as stream:
            os.kill(stopped, TERM)
            time.sleep(0.3)
            served = [worker_pid(gateway) for _ in range(20)]
            assert stream.rest() == WHOLE

        assert stopped not in served
        eventually(lambda: len(web_workers(gateway) - {stopped}) == 2)

    def test_a_killed_background_worker_comes_back(self, gateway: GatewayServer) -> None:
        killed = background_worker(gateway)
        eventually(lambda: "background worker started" in gateway.log())
        os.kill(killed, KILL)

        eventually(lambda: len(gateway.workers() - {killed}) == 3)

        eventually(lambda: gateway.log().count("background worker started") >= 2)

    def test_no_process_outlives_a_killed_main(self, tmp_path: Path) -> None:
        with GatewayServer(tmp_path, program=STREAMING) as server:
            everyone = server.pids()
            assert len(server.workers()) == 3
            assert server.redis() in everyone

            server.signal(KILL)

            eventually(lambda: not any(is_alive(pid) for pid in everyone), within_s=5)

    def test_a_main_that_is_killed_during_its_start_leaves_nothing_behind(self, tmp_path: Path) -> None:
        for wait_s in (0.6, 0.9, 1.2):
            server = GatewayServer(tmp_path, program=STREAMING)
            server.launch()
            time.sleep(wait_s)
            everyone = set(server.pids())
            server.signal(KILL)
            server.wait()

            eventually(lambda: not any(is_alive(pid) for pid in everyone), within_s=5)  # noqa: B023 - right here


class TestForkServer:
    def test_its_copies_share_most_of_their_memory(self, gateway: GatewayServer) -> None:
        memory = [resident(pid) for pid in gateway.workers()]

        assert len(memory) == 3
        assert all(private < whole / 2 for whole, private in memory)

    def test_it_takes_nothing_from_the_folder_that_the_command_was_started_in(self, tmp_path: Path) -> None:
        for name in ("preload", "app", "conf"):
            (tmp_path / f"{name}.py").write_text("raise RuntimeError('foreign code')")

        with GatewayServer(tmp_path, ONE | {"PYTHONPATH": ""}) as server:
            assert all(private < whole / 2 for whole, private in map(resident, server.workers()))

    def test_all_workers_come_back_when_it_is_killed(self, tmp_path: Path) -> None:
        with GatewayServer(tmp_path, program=STREAMING) as server:
            killed, workers = server.fork_server(), server.workers()
            os.kill(killed, KILL)

            eventually(lambda: len(server.workers() - workers) == 3 and server.answers())
            eventually(lambda: len(web_workers(server) - workers) == 2)

            assert not any(is_alive(pid) for pid in workers)
            assert server.fork_server() != killed

    def test_all_workers_come_back_when_it_dies_while_it_is_asked_for_one(self, tmp_path: Path) -> None:
        with GatewayServer(tmp_path, program=("-m", "tests.e2e.unlucky_app")) as server:
            workers = server.workers()
            os.kill(min(web_workers(server)), KILL)

            eventually(lambda: len(server.workers() - workers) == 3 and server.answers())
            eventually(lambda: len(web_workers(server) - workers) == 2)

            assert "can't be started" in server.log()

    @pytest.mark.long
    def test_frozen_it_does_not_keep_the_others_from_ending(self, tmp_path: Path) -> None:
        with GatewayServer(tmp_path, {"SHUTDOWN_TIMEOUT": "1s"}, STREAMING) as server:
            everyone = server.pids()
            os.kill(server.fork_server(), signal.SIGSTOP)
            server.signal(TERM)

            assert server.wait(20) == 1
            eventually(lambda: not any(is_alive(pid) for pid in everyone))

    def test_a_stop_signal_of_its_own_changes_nothing(self, gateway: GatewayServer) -> None:
        before = gateway.fork_server(), gateway.workers()
        os.kill(gateway.fork_server(), TERM)
        os.kill(gateway.fork_server(), signal.SIGINT)
        time.sleep(0.3)

        assert (gateway.fork_server(), gateway.workers()) == before


def resident(pid: int) -> tuple[int, int]:
    """A process' memory by proc(5)'s smaps_rollup, in KB: all of it, and what no other process shares."""
    rows = [line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]]
    kb = {row[0]: int(row[1]) for row in rows}
    return kb["Rss:"], kb["Private_Clean:"] + kb["Private_Dirty:"]


class TestEmbeddedRedis:
    @pytest.fixture
    def client(self, gateway: GatewayServer) -> Iterator[redis.Redis]:
        with redis.Redis(unix_socket_path=str(gateway.folder / "data" / "redis" / "redis.sock")) as client:
            yield client

    def test_comes_back_with_its_data_when_it_is_killed(self, gateway: GatewayServer, client: redis.Redis) -> None:
        client.set("kept", "1")
        killed = gateway.redis()
        os.kill(killed, KILL)

        eventually(lambda: json.loads(gateway.get("/ready")[1])["redis"] == "ok" and gateway.redis() != killed)

        assert client.get("kept") == b"1"

    def test_is_for_its_user_only(self, gateway: GatewayServer) -> None:
        folder = gateway.folder / "data" / "redis"

        assert folder.stat().st_mode & 0o777 == 0o700
        assert (folder / "redis.sock").stat().st_mode & 0o777 == 0o700

    def test_is_not_ended_by_a_stop_signal_of_its_own(self, gateway: GatewayServer, client: redis.Redis) -> None:
        before = gateway.redis()
        os.kill(before, TERM)
        os.kill(before, signal.SIGINT)

        assert client.ping()
        assert gateway.redis() == before

    def test_a_second_gateway_on_the_same_data_is_refused(self, gateway: GatewayServer, tmp_path: Path) -> None:
        second = GatewayServer(tmp_path, env={"PLUMISE_DATA_DIR": str(gateway.folder / "data")})

        second.launch()

        assert second.wait() == 78
        assert "another gateway uses" in second.log()
        assert second.log().count("\n") == 1

    @pytest.mark.parametrize("end", [TERM, KILL], ids=["stopped", "killed"])
    def test_the_next_start_finds_the_data_of_one_that_was(self, tmp_path: Path, end: signal.Signals) -> None:
        path = tmp_path / "data" / "redis" / "redis.sock"
        with GatewayServer(tmp_path, ONE, SMALL) as server, redis.Redis(unix_socket_path=str(path)) as client:
            client.set("kept", "1")
            server.signal(end)
            server.wait()
        assert path.exists() == (end == KILL)  # a killed server's socket stays behind

        with GatewayServer(tmp_path, ONE, SMALL), redis.Redis(unix_socket_path=str(path)) as client:
            assert client.get("kept") == b"1"


class TestProcfile:
    def test_honcho_runs_it_and_stops_it(self, tmp_path: Path, redis_url: str) -> None:
        port = free_port()
        server = GatewayServer(tmp_path, port=port)  # only to ask and to read
        (tmp_path / "app.py").symlink_to(ROOT / "app.py")  # and a folder without a developer's .env
        env = {**DEFAULTS, "PORT": str(port), "REDIS_URL": redis_url}
        command = [
            str(Path(sys.executable).parent / "honcho"),
            "-f",
            str(ROOT / "Procfile"),
            "-d",
            str(tmp_path),
            "start",
        ]
        with (tmp_path / "gateway.log").open("wb") as log:
            honcho = subprocess.Popen(command, env=env, stdout=log, stderr=log, start_new_session=True)
        try:
            eventually(lambda: server.answers() and "background worker started" in server.log(), within_s=30)
            everyone = descendants(honcho.pid)
            honcho.send_signal(TERM)
            honcho.wait(10)
        finally:
            if honcho.poll() is None:
                os.killpg(honcho.pid, KILL)
                honcho.wait()
        assert len(everyone) > 4
        assert not any(is_alive(pid) for pid in everyone)
        assert "SIGKILL" not in server.log()  # honcho's word for who did not end within 5 s
        assert "Traceback" not in server.log()
