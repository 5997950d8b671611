"""Leaders that are killed or frozen: another one takes over, and no two of them ever act in turns."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import pytest
import redis

from core import redis_keys
from tests.e2e.server import ROOT, eventually
from workers import child

PROGRAM = "tests.workers.leading_process"
STOP, CONTINUE, KILL = signal.SIGSTOP, signal.SIGCONT, signal.SIGKILL


class Watch:
    """Everything that Redis does, in its own order: who took the lead, and whose snapshots were accepted."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.leads: list[str] = []
        self.strangers: list[tuple[str, str]] = []  # (author, leader): snapshots of others than the last leader
        self.accepted = 0
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._listening = threading.Event()

    def start(self) -> None:
        """Returns once nothing escapes it."""
        self._thread.start()
        assert self._listening.wait(10)

    def stop(self) -> None:
        """Waits until all that was done so far is seen."""
        self._client.set("end", "")
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _look(self) -> None:
        with self._client.monitor() as monitor:  # type: ignore[no-untyped-call] # redis-py leaves it so
            self._listening.set()
            for event in monitor.listen():
                command = event["command"]
                if command.startswith("SET end"):
                    return
                if event["client_type"] == "lua":
                    self._note(command)

    def _note(self, command: str) -> None:
        words = command.split(" ")
        if words[:2] == ["SET", redis_keys.LEADER]:
            self.leads.append(words[2])
        elif words[:2] == ["SET", redis_keys.NODES]:
            self.accepted += 1
            author = re.findall(r"process-\d+", command)[0]
            if author != self.leads[-1]:
                self.strangers.append((author, self.leads[-1]))


class Leaders:
    """Processes that try to lead."""

    def __init__(self, client: redis.Redis, redis_url: str) -> None:
        self._client = client
        self._redis_url = redis_url
        self._names = (f"process-{number}" for number in count())
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """One more."""
        name = next(self._names)
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]  # it ends with the test run
        command = [*launcher, sys.executable, "-m", PROGRAM, self._redis_url, name]
        self.processes[name] = subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.DEVNULL)

    def leader(self) -> str:
        """Who leads; "" when nobody does."""
        return bytes(self._client.get(redis_keys.LEADER) or b"").decode()  # type: ignore[arg-type] # never str here

    def wait_for_another(self, than: str) -> str:
        """The next one."""
        eventually(lambda: self.leader() not in ("", than), within_s=60)
        return self.leader()

    def signal(self, name: str, number: int) -> None:
        """To one of them."""
        os.kill(self.processes[name].pid, number)

    def kill(self, name: str) -> None:
        """kill -9."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()


@contextmanager
def three_leaders(redis_url: str) -> Iterator[tuple[Leaders, Watch]]:
    """Three processes, one of them leading."""
    with redis.Redis.from_url(redis_url) as client:
        watch, leaders = Watch(client), Leaders(client, redis_url)
        watch.start()
        try:
            for _ in range(3):
                leaders.start()
            leaders.wait_for_another("")
            yield leaders, watch
        finally:
            for name in list(leaders.processes):
                leaders.kill(name)
            watch.stop()


class TestTakeOver:
    @pytest.mark.parametrize("times", [3, pytest.param(100, marks=pytest.mark.long)])
    def test_after_each_kill_another_process_leads_and_only_it_acts(self, redis_url: str, times: int) -> None:
        with three_leaders(redis_url) as (leaders, watch):
            for _ in range(times):
                leader = leaders.wait_for_another("")
                leaders.kill(leader)
                leaders.start()
                leaders.wait_for_another(leader)

        assert len(watch.leads) >= times + 1
        assert watch.accepted > times
        assert watch.strangers == []

    @pytest.mark.parametrize("times", [3, pytest.param(100, marks=pytest.mark.long)])
    def test_a_frozen_leader_that_thaws_acts_no_more(self, redis_url: str, times: int) -> None:
        with three_leaders(redis_url) as (leaders, watch):
            for _ in range(times):
                leader = leaders.wait_for_another("")
                leaders.signal(leader, STOP)
                leaders.wait_for_another(leader)
                leaders.signal(leader, CONTINUE)

        assert len(watch.leads) >= times + 1
        assert watch.accepted > times
        assert watch.strangers == []

    def test_a_write_that_a_frozen_leader_had_begun_is_refused(self, redis_url: str) -> None:
        """As if it had frozen between the look at its lease and the write: nothing but the fence can tell."""
        with redis.Redis.from_url(redis_url) as client:
            script = client.register_script((ROOT / "core/lua/nodes_write.lua").read_text())
            keys = [redis_keys.FENCE, redis_keys.NODES, redis_keys.NODES_VERSION]
            client.set(redis_keys.FENCE, 7)

            assert script(keys, [6, "old", 60]) == b""
            assert client.get(redis_keys.NODES) is None
            assert script(keys, [7, "new", 60]) == client.get(redis_keys.NODES_VERSION)
            assert client.get(redis_keys.NODES) == b"new"
