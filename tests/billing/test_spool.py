"""Commits on disk: what is written is not lost by a kill, nor by a full disk, and is taken over once."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.billing.commit import Commit
from core.billing.spool import SUFFIX, Spool

ONE_THAT_IS_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from core.billing.commit import Commit
from core.billing.spool import Spool

async def main():
    spool = Spool(Path(sys.argv[1]), "killed")
    for i in range(3):
        await spool.append(Commit("charge", [f"key {i}"], ["0", i]))
    if sys.argv[2] == "lives":
        print("written", flush=True)
        sys.stdin.read()
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


def commit(number: int) -> Commit:
    """One of many."""
    return Commit("charge", [f"key {number}"], ["0", number])


def files(folder: Path) -> list[str]:
    """The names of what lies there."""
    return sorted(path.name for path in folder.iterdir())


def left_in(folder: Path) -> list[Commit]:
    """What the next worker finds there."""
    spool = Spool(folder, "next")
    try:
        return spool.adopt()
    finally:
        spool.close()


def worker(folder: Path, fate: str) -> subprocess.Popen[bytes]:
    """Another process with a spool there: it `dies` by kill -9, or `lives` until its input ends."""
    command = [sys.executable, "-c", ONE_THAT_IS_KILLED, str(folder), fate]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """A disk on which no file gets longer than so many bytes: a write beyond is cut off, the next one refused."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.asyncio
class TestAppend:
    async def test_many_at_once_are_all_on_the_disk(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, "one")

        async with asyncio.timeout(30):
            await asyncio.gather(*(spool.append(commit(i)) for i in range(30)))
        spool.close()

        assert {tuple(found.keys) for found in left_in(tmp_path)} == {(f"key {i}",) for i in range(30)}

    async def test_makes_no_file_before_there_is_something(self, tmp_path: Path) -> None:
        folder = tmp_path / "spool"
        Spool(folder, "one").close()
        assert not folder.exists()

        spool = Spool(folder, "one")
        await spool.append(commit(1))

        assert files(folder) == [f"one{SUFFIX}"]
        spool.close()

    async def test_a_folder_that_can_not_be_made_is_an_os_error(self, tmp_path: Path) -> None:
        (tmp_path / "spool").write_text("a file")
        spool = Spool(tmp_path / "spool", "one")

        with pytest.raises(OSError, match="exists"):
            await spool.append(commit(1))
        assert spool.adopt() == []

    async def test_a_line_that_the_disk_cut_off_is_told_and_spoils_no_other(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, "one")
        await spool.append(commit(1))
        size = (tmp_path / f"one{SUFFIX}").stat().st_size

        with room_for(size + 10), pytest.raises(OSError, match="space"):
            await spool.append(commit(2))
        await spool.append(commit(3))
        spool.close()

        assert left_in(tmp_path) == [commit(1), commit(3)]


@pytest.mark.asyncio
class TestAdopt:
    async def test_takes_over_what_a_killed_worker_left(self, tmp_path: Path) -> None:
        with worker(tmp_path, "dies") as killed:
            assert killed.wait(30) == -9
        spool = Spool(tmp_path, "next")

        assert spool.adopt() == [commit(i) for i in range(3)]
        spool.close()

    async def test_leaves_a_living_worker_s_file_alone(self, tmp_path: Path) -> None:
        with worker(tmp_path, "lives") as alive:
            assert alive.stdout is not None
            assert alive.stdout.readline() == b"written\n"
            spool = Spool(tmp_path, "next")

            assert spool.adopt() == []
            alive.kill()
            alive.wait(30)
            assert spool.adopt() == [commit(i) for i in range(3)]
            spool.close()

    async def test_only_one_successor_gets_it(self, tmp_path: Path) -> None:
        with worker(tmp_path, "dies") as killed:
            killed.wait(30)
        successors = [Spool(tmp_path, f"next {i}") for i in range(3)]

        assert [len(spool.adopt()) for spool in successors] == [3, 0, 0]
        for spool in successors:
            spool.close()

    async def test_drops_a_last_line_that_was_cut_off(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        spool = Spool(tmp_path, "one")
        for i in range(3):
            await spool.append(commit(i))
        spool.close()
        file = tmp_path / f"one{SUFFIX}"
        os.truncate(file, file.stat().st_size - 5)

        assert left_in(tmp_path) == [commit(0), commit(1)]
        assert "not written to its end" in caplog.text

    @pytest.mark.parametrize(
        "damage",
        [
            b"\0\0\0",
            b"[]",
            b'{"script":"\xff","keys":[],"args":[]}',
            b'{"script":"of another release","keys":[],"args":[]}',
            b"\r",
            b"{}",
        ],
    )
    async def test_drops_a_damaged_line_and_no_other(self, tmp_path: Path, damage: bytes) -> None:
        one = Spool(tmp_path, "one")
        await one.append(commit(1))
        with (tmp_path / f"one{SUFFIX}").open("ab") as file:
            file.write(b"\n" + damage)
        await one.append(commit(2))
        one.close()

        assert left_in(tmp_path) == [commit(1), commit(2)]

    async def test_one_that_can_not_be_opened_is_logged_and_keeps_no_other_from_being_adopted(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / f"a folder{SUFFIX}").mkdir()
        one = Spool(tmp_path, "one")
        await one.append(commit(1))
        one.close()

        assert left_in(tmp_path) == [commit(1)]
        assert "not taken over" in caplog.text

    async def test_a_file_that_was_adopted_stays_until_all_is_counted(self, tmp_path: Path) -> None:
        one = Spool(tmp_path, "one")
        await one.append(commit(1))
        one.close()

        two = Spool(tmp_path, "two")
        two.adopt()
        two.close()
        three = Spool(tmp_path, "three")
        assert three.adopt() == [commit(1)]
        three.clear()

        assert files(tmp_path) == []


@pytest.mark.asyncio
class TestClear:
    async def test_what_was_cleared_is_not_adopted_and_what_comes_after_is(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, "one")
        await spool.append(commit(1))
        spool.clear()
        await spool.append(commit(2))
        spool.close()

        assert left_in(tmp_path) == [commit(2)]

    async def test_an_empty_file_goes_with_its_worker(self, tmp_path: Path) -> None:
        spool = Spool(tmp_path, "one")
        await spool.append(commit(1))
        spool.clear()
        spool.close()

        assert files(tmp_path) == []
