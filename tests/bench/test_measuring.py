"""The benchmark measures what it says: a mock node, a load client, and the arithmetic between them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from bench.guard import missed
from bench.measure import Figures, measured
from bench.page import PAGE, replaced
from bench.peer import Peer
from bench.peers import PEERS
from bench.ports import free_port
from bench.processes import listener, resident, resident_at_most, started, used
from bench.report import chart, ratio, text
from bench.scenarios import HTTP, SCENARIOS, SOCKET, Scenario

FIGURES = Figures(cpu_us=30, redis_us=5, per_s=1000, p99_ms=2, first_p99_ms=3, memory_mb=60, errors=0)


@contextmanager
def no_peer(nodes: Sequence[int], folder: Path) -> Iterator[Peer]:
    """The load client asks the mock node itself."""
    yield Peer(os.getpid(), nodes[0])


@pytest.mark.long  # it needs the machine for itself
class TestMeasuring:
    def test_each_paced_stream_gives_its_tokens_at_its_rate(self) -> None:
        figures = measured(no_peer, Scenario("paced", "", "sse", 4, rate=50, warm_s=0.2), 1.0)

        assert figures.per_s == pytest.approx(4 * 50, rel=0.2)
        assert figures.errors == 0

    def test_streams_at_full_speed_have_their_delay_told(self) -> None:
        figures = measured(no_peer, Scenario("fast", "", "sse", 4, warm_s=0.1), 0.3)

        assert figures.per_s > 1000
        assert 0 < figures.p99_ms < 1000
        assert figures.first_p99_ms > 0

    def test_answers_in_one_piece_are_counted(self) -> None:
        figures = measured(no_peer, Scenario("json", "", "json", 4, warm_s=0.1), 0.3)

        assert figures.per_s > 100
        assert figures.errors == 0


class TestProcesses:
    def test_the_work_of_a_child_counts_for_its_tree(self, tmp_path: Path) -> None:
        work = "import time\nwhile time.process_time() < 0.2: pass\ntime.sleep(60)"
        parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])"
        deadline = time.monotonic() + 20

        with started([sys.executable, "-c", parent], (0,), tmp_path / "log") as pid:
            while used(pid).cpu_s < 0.2 and time.monotonic() < deadline:
                time.sleep(0.05)
            spent = used(pid)

        assert spent.cpu_s >= 0.2
        assert spent.memory > 0
        assert not Path(f"/proc/{pid}").exists()

    def test_memory_that_processes_share_counts_once(self, tmp_path: Path) -> None:
        size = 50_000_000
        fork = f"import os, time; k = b'k' * {size}; [os.fork() or time.sleep(60) for _ in range(3)]"
        deadline = time.monotonic() + 20

        with started([sys.executable, "-c", f"{fork}; time.sleep(60)"], (0,), tmp_path / "log") as pid:
            while used(pid).memory < size and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(0.3)  # until all four are there

            assert size < used(pid).memory < 2 * size
            assert resident(pid) > size

    def test_the_child_that_listens_is_told_apart(self, tmp_path: Path) -> None:
        port = free_port()
        listens = f"import socket, time; s = socket.create_server(('127.0.0.1', {port}))"
        codes = ["import time; time.sleep(60)", f"{listens}; time.sleep(60)"]
        start = "[subprocess.Popen([sys.executable, '-c', code]) for code in codes]"
        parent = f"import subprocess, sys\ncodes = {codes!r}\nfor child in {start}: child.wait()"
        deadline = time.monotonic() + 20

        with started([sys.executable, "-c", parent], (0,), tmp_path / "log") as pid:
            worker = 0
            while not worker and time.monotonic() < deadline:
                time.sleep(0.05)
                with suppress(ValueError):  # nobody listens yet
                    worker = listener(pid, port)

            assert worker not in (0, pid)
            assert 0 < resident(worker) <= resident_at_most(worker)


class TestPage:
    def test_a_part_is_replaced_and_the_rest_stays(self) -> None:
        page = "# Title\n<!-- one -->\nold\n<!-- end -->\nbetween\n<!-- two -->\n<!-- end -->\nlast\n"

        page = replaced(replaced(page, "one", "new"), "two", "more")

        assert page == (
            "# Title\n<!-- one -->\n\nnew\n\n<!-- end -->\nbetween\n<!-- two -->\n\nmore\n\n<!-- end -->\nlast\n"
        )

    def test_a_part_that_is_not_there_is_told(self) -> None:
        with pytest.raises(ValueError, match="no part three"):
            replaced("<!-- one -->\n<!-- end -->", "three", "text")


class TestPeers:
    def test_each_scenario_has_a_reference_beside_the_gateway(self) -> None:
        for scenario in (*HTTP, *SOCKET):
            assert {name for name, peer in PEERS.items() if scenario in peer.scenarios} > {"gateway"}

    def test_the_page_says_what_each_peer_does(self) -> None:
        page = PAGE.read_text()
        assert [name for name in PEERS if f"`{name}`" not in page] == []


class TestReport:
    def test_a_ratio_is_of_one_scenario_and_absent_without_a_reference(self) -> None:
        table = {("gateway", "json"): FIGURES, ("bare", "json"): replace(FIGURES, cpu_us=20)}

        assert ratio(table, "gateway", "bare", "json") == 1.5
        assert ratio(table, "gateway", "nginx", "json") is None
        assert "| gateway | 30.0 | 1.50 | – |" in text(table)

    def test_the_longest_bar_is_the_dearest_peer(self) -> None:
        table = {("gateway", "json"): FIGURES, ("bare", "json"): replace(FIGURES, cpu_us=20)}

        picture = chart(table, "json")

        assert picture.index(">bare<") < picture.index(">gateway<")
        assert SCENARIOS["json"].title in picture


class TestGuard:
    @pytest.mark.parametrize(("limit", "is_missed"), [(1.5, False), (1.4, False), (1.3, True)])
    def test_a_ratio_may_be_over_its_limit_by_the_margin(self, limit: float, is_missed: bool) -> None:
        table = {("gateway", "json"): FIGURES, ("bare", "json"): replace(FIGURES, cpu_us=20)}

        assert bool(missed(table, {"json": limit}, 0.1)) is is_missed

    def test_what_was_not_measured_is_missed(self) -> None:
        assert missed({}, {"json": 1.0}, 0.1)

    def test_errors_are_missed_too(self) -> None:
        table = {("gateway", "json"): replace(FIGURES, errors=1), ("bare", "json"): FIGURES}

        assert missed(table, {"json": 9.0}, 0.1)
