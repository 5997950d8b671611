"""Background workers as they run: any number of them, one leads, and another takes over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import redis

from core import redis_keys
from core.nodes.snapshot import Snapshot
from tests.e2e.network import Network
from tests.e2e.server import DEFAULTS, eventually
from workers import child


class Background:
    """`python -m workers.background`, with a node that only it knows: its snapshots are told by that."""

    def __init__(self, folder: Path, redis_url: str, node_url: str) -> None:
        self.node_url = node_url
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]  # it ends with the test run
        with (folder / "background.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*launcher, sys.executable, "-m", "workers.background"],
                cwd=folder,
                env={**DEFAULTS, "REDIS_URL": redis_url, "NODE_URLS": node_url, "NODE_PROBE_INTERVAL": "1s"},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, number: int) -> None:
        """By a signal."""
        os.kill(self.process.pid, number)
        self.process.wait(20)


@pytest.fixture
def backgrounds(tmp_path: Path, redis_url: str, nodes: Network) -> Iterator[list[Background]]:
    """Two of them."""
    both = [Background(tmp_path, redis_url, node.url) for node in nodes.nodes[:2]]
    yield both
    for one in both:
        if one.process.poll() is None:
            one.end(signal.SIGKILL)


class Shared:
    """What all processes can read."""

    def __init__(self, redis_url: str) -> None:
        self._client = redis.Redis.from_url(redis_url)

    def close(self) -> None:
        self._client.close()

    def leads(self, background: Background) -> bool:
        """Whether the last snapshot is this one's."""
        raw = self._client.get(redis_keys.NODES)
        nodes = [] if raw is None else msgspec.json.decode(raw, type=Snapshot).nodes
        return [node.url for node in nodes if node.online] == [background.node_url]

    def heartbeat(self) -> int:
        """Unix seconds."""
        return int(self._client.get(redis_keys.BACKGROUND) or 0)


@pytest.fixture
def shared(redis_url: str) -> Iterator[Shared]:
    """The Redis of both."""
    opened = Shared(redis_url)
    yield opened
    opened.close()


def leader_and_other(backgrounds: list[Background], shared: Shared) -> tuple[Background, Background]:
    """The one that leads, and the other."""
    eventually(lambda: any(shared.leads(one) for one in backgrounds), within_s=30)
    leader = next(one for one in backgrounds if shared.leads(one))
    return leader, next(one for one in backgrounds if one is not leader)


class TestLeader:
    def test_one_that_ends_well_hands_the_lead_on(self, backgrounds: list[Background], shared: Shared) -> None:
        leader, other = leader_and_other(backgrounds, shared)
        leader.end(signal.SIGTERM)

        assert leader.process.returncode == 0
        eventually(lambda: shared.leads(other), within_s=30)

    def test_a_killed_one_is_replaced_and_the_heart_beats_on(
        self, backgrounds: list[Background], shared: Shared
    ) -> None:
        leader, other = leader_and_other(backgrounds, shared)
        leader.end(signal.SIGKILL)
        beat = shared.heartbeat()

        eventually(lambda: shared.leads(other), within_s=15)
        eventually(lambda: shared.heartbeat() > beat, within_s=15)

    @pytest.mark.long
    def test_a_frozen_one_is_replaced_and_follows_when_it_thaws(
        self, backgrounds: list[Background], shared: Shared
    ) -> None:
        leader, other = leader_and_other(backgrounds, shared)
        os.kill(leader.process.pid, signal.SIGSTOP)
        eventually(lambda: shared.leads(other), within_s=15)
        os.kill(leader.process.pid, signal.SIGCONT)
        for _ in range(3):
            beat = shared.heartbeat()
            eventually(lambda beat=beat: shared.heartbeat() > beat, within_s=15)  # type: ignore[misc] # a lambda's default
            assert shared.leads(other)
        other.end(signal.SIGTERM)

        eventually(lambda: shared.leads(leader), within_s=30)
