"""A small piece of the chaos runs (make chaos, make chaos-mutations), for every day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LONGEST_S = 300
POINTS = (
    "planned",
    "journaled",
    "sent",
    "final",
    "recover_burning",
    "reserved",
    "checkpointed",
    "committed",
    "delivered",
)


def chaos(*options: str) -> subprocess.CompletedProcess[str]:
    """One run."""
    command = [sys.executable, "-m", "tests.chaos", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LONGEST_S, check=False)


class TestMoney:
    """Real processes, a real chain and a real Redis."""

    def test_nothing_is_lost_or_double_whatever_is_killed(self) -> None:
        points = [word for point in POINTS for word in ("--point", point)]
        done = chaos("--seed", "7", "--seconds", "20", *points)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "drained, lost 0, double 0" in done.stdout

    def test_a_settler_that_sends_before_it_writes_is_found_out(self) -> None:
        done = chaos("--mutation", "no_write_ahead")
        assert done.returncode == 1, done.stdout + done.stderr
        assert "double 0" not in done.stdout
