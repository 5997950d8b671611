"""No answer's charge is lost or doubled: Redis dies, the worker dies, or Redis comes back without its last second."""

from __future__ import annotations

import asyncio
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from core import redis_keys
from core.access.grant import Grant
from core.billing.commits import Commits
from core.billing.ledger import KeptAnswer, Ledger
from core.billing.spool import SUFFIX, Spool
from core.bus import open_bus
from core.errors import StoreUnavailable
from core.store import Store, open_store
from tests.access.gates import ADA
from tests.billing.paying import LATENCY_MS, NODE, Books, charges_over, reserve, usage
from tests.fakes.redis_server import RedisServer

PAUSE_S = 0.02
WINDOW_S = 0.3
ONE_THAT_IS_KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from core.access.grant import Charge, Grant
from core.billing.commits import Commits
from core.billing.ledger import Ledger
from core.billing.spool import Spool
from core.bus import open_bus
from core.catalog import Tier
from core.store import open_store
from tests.access.gates import ADA, CATALOG
from tests.billing.paying import NODE, usage

def at(step):
    if step == "spooled":
        os.kill(os.getpid(), signal.SIGKILL)

async def main(url, folder):
    async with open_store(url) as store, open_bus(url) as bus:
        commits = Commits(store, Spool(Path(folder), "killed"), at=at)
        commits.follow(bus)
        ledger = Ledger(store, commits=commits)
        charge = Charge(1000, 10**9, 100)
        grant = Grant("req_1", ADA, Tier.PRO, CATALOG.require("small"), 100, None, charge)
        await ledger.commit(grant, usage(8, 5), NODE, 250)
        print("charged", flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
def books(own_redis: RedisServer) -> Iterator[Books]:
    """What stands in it."""
    opened = Books(own_redis.url)
    yield opened
    opened.redis.close()


@asynccontextmanager
async def worker(
    redis_server: RedisServer, folder: Path, name: str = "one", *, pause_s: float = PAUSE_S
) -> AsyncIterator[tuple[Store, Ledger, Commits]]:
    """A worker's ledger, with a spool there."""
    async with open_store(redis_server.url, timeout_s=5) as store, open_bus(redis_server.url) as bus:
        commits = Commits(store, Spool(folder, name), pause_s=pause_s, window_s=WINDOW_S)
        commits.follow(bus)
        ledger = Ledger(store, charges=charges_over(store), commits=commits)
        yield store, ledger, commits
        await ledger.aclose()


async def charge(ledger: Ledger, grant: Grant, answer: KeptAnswer | None = None) -> None:
    """13 tokens."""
    await ledger.commit(grant, usage(8, 5), NODE, LATENCY_MS, answer)


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for it."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(PAUSE_S)


async def reserve_one(redis_server: RedisServer, number: int) -> Grant:
    """A request that was let in by some other worker."""
    async with open_store(redis_server.url, timeout_s=5) as store:
        return await reserve(charges_over(store), f"req_{number}")


class Disk:
    """What a Redis has on its disk at this moment, and what it is left with when it is killed later."""

    def __init__(self, redis_server: RedisServer, copy: Path) -> None:
        self._redis = redis_server
        self._data, self._copy = redis_server.folder / "appendonlydir", copy
        shutil.copytree(self._data, copy)

    def kill_redis(self) -> None:
        """It comes back without what it had confirmed since."""
        self._redis.stop()
        shutil.rmtree(self._data)
        shutil.copytree(self._copy, self._data)


def written(folder: Path) -> int:
    """Bytes that wait on the disk."""
    return sum(file.stat().st_size for file in folder.glob(f"*{SUFFIX}"))


def is_charged(books: Books, tokens: int) -> bool:
    """Whether the user was charged so much, once, and nothing is held for him."""
    credit = books.credit()
    return credit["cum"] == tokens and credit["reserved"] == 0


@pytest.mark.asyncio
class TestRedisThatIsAway:
    async def test_gets_the_charges_as_soon_as_it_is_back(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        async with worker(own_redis, tmp_path) as (store, ledger, _):
            grants = [await reserve(charges_over(store), f"req_{i}") for i in range(10)]
            own_redis.stop()
            failed = await asyncio.gather(*(charge(ledger, grant) for grant in grants), return_exceptions=True)
            assert [type(one) for one in failed] == [StoreUnavailable] * 10
            assert written(tmp_path) > 0

            own_redis.start()
            await until(lambda: is_charged(books, 130))
            await until(lambda: written(tmp_path) == 0)

        assert books.answers()["answers"] == "10"

    async def test_gets_the_kept_answer_with_its_charge(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        key = redis_keys.kept_answer(ADA.subject, "key")
        async with worker(own_redis, tmp_path) as (store, ledger, _):
            grant = await reserve(charges_over(store), "req_1")
            own_redis.stop()
            with pytest.raises(StoreUnavailable):
                await charge(ledger, grant, KeptAnswer(key, 'the "answer"\n', 60))
            own_redis.start()
            await until(lambda: is_charged(books, 13))

            assert await store.get(key) == 'the "answer"\n'

    async def test_gets_them_at_the_latest_when_the_worker_ends(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            ledger = Ledger(store, commits=Commits(store, Spool(tmp_path, "one"), pause_s=3600))
            grant = await reserve(charges_over(store), "req_1")
            own_redis.stop()
            with pytest.raises(StoreUnavailable):
                await charge(ledger, grant)
            own_redis.start()
            await ledger.aclose()

        assert is_charged(books, 13)
        assert list(tmp_path.iterdir()) == []

    async def test_that_stays_away_leaves_them_to_the_next_worker(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        async with worker(own_redis, tmp_path) as (store, ledger, _):
            grant = await reserve(charges_over(store), "req_1")
            own_redis.stop()
            with pytest.raises(StoreUnavailable):
                await charge(ledger, grant)
        own_redis.start()

        async with worker(own_redis, tmp_path, "two") as (_, ledger, _):
            ledger.start()
            await until(lambda: is_charged(books, 13))

    async def test_a_disk_that_refuses_is_logged_and_the_charge_is_kept_in_memory(
        self, own_redis: RedisServer, books: Books, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "spool").write_text("a file")
        async with worker(own_redis, tmp_path / "spool") as (store, ledger, _):
            ledger.start()
            grant = await reserve(charges_over(store), "req_1")
            own_redis.stop()
            with pytest.raises(StoreUnavailable):
                await charge(ledger, grant)
            own_redis.start()
            await until(lambda: is_charged(books, 13))

        assert "not on the disk" in caplog.text


@pytest.mark.asyncio
class TestKilledWorker:
    async def test_its_successors_charge_what_it_had_on_the_disk_once(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        async with open_store(own_redis.url, timeout_s=5) as store:
            await reserve(charges_over(store), "req_1")
        own_redis.stop()
        command = [sys.executable, "-c", ONE_THAT_IS_KILLED, own_redis.url, str(tmp_path)]
        killed = await asyncio.to_thread(subprocess.run, command, start_new_session=True, check=False, timeout=60)
        assert killed.returncode == -9
        own_redis.start()

        async with (
            worker(own_redis, tmp_path, "two") as (_, two, _),
            worker(own_redis, tmp_path, "three") as (_, three, _),
        ):
            two.start()
            three.start()
            await until(lambda: is_charged(books, 13))
            await until(lambda: written(tmp_path) == 0)

        assert books.answers()["answers"] == "1"
        assert list(tmp_path.iterdir()) == []


@pytest.mark.asyncio
class TestRedisThatLostItsLastSecond:
    @pytest.mark.parametrize("away_s", [0, 2 * WINDOW_S])
    async def test_gets_the_latest_charges_again_however_long_it_was_away(
        self, own_redis: RedisServer, books: Books, tmp_path: Path, away_s: float
    ) -> None:
        async with worker(own_redis, tmp_path / "spool") as (_, ledger, _):
            await charge(ledger, await reserve_one(own_redis, 0))
            disk = Disk(own_redis, tmp_path / "disk")
            for i in (1, 2):
                await charge(ledger, await reserve_one(own_redis, i))
            disk.kill_redis()
            await asyncio.sleep(away_s)
            own_redis.start()
            await until(lambda: is_charged(books, 39))
            await until(lambda: written(tmp_path / "spool") == 0)

        assert books.answers()["answers"] == "3"

    async def test_gets_them_as_often_as_it_loses_them(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        disk = Disk(own_redis, tmp_path / "disk")
        async with worker(own_redis, tmp_path / "spool") as (_, ledger, _):
            await charge(ledger, await reserve_one(own_redis, 0))
            for _ in range(3):
                disk.kill_redis()
                own_redis.start()
                await until(lambda: books.credit()["cum"] == 13)

        assert books.answers()["answers"] == "1"

    async def test_gets_them_though_it_stood_still_before_and_nobody_could_tell(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        disk = Disk(own_redis, tmp_path / "disk")
        async with worker(own_redis, tmp_path / "spool") as (_, ledger, _):
            await charge(ledger, await reserve_one(own_redis, 0))
            assert own_redis.process is not None
            own_redis.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(2 * WINDOW_S)
            disk.kill_redis()
            own_redis.start()
            await until(lambda: books.credit()["cum"] == 13)

    async def test_gets_them_at_once_when_it_is_back(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        disk = Disk(own_redis, tmp_path / "disk")
        async with worker(own_redis, tmp_path / "spool", pause_s=3600) as (_, ledger, _):
            await charge(ledger, await reserve_one(own_redis, 0))
            disk.kill_redis()
            await until(lambda: written(tmp_path / "spool") > 0)
            own_redis.start()
            await until(lambda: books.credit()["cum"] == 13)

    async def test_gets_them_from_the_next_worker_when_the_first_ended_meanwhile(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        disk = Disk(own_redis, tmp_path / "disk")
        async with worker(own_redis, tmp_path / "spool") as (_, ledger, commits):
            await charge(ledger, await reserve_one(own_redis, 0))
            disk.kill_redis()
            commits.repeat()
        own_redis.start()

        async with worker(own_redis, tmp_path / "spool", "two") as (_, ledger, _):
            ledger.start()
            await until(lambda: books.credit()["cum"] == 13)

    async def test_gets_them_from_the_next_worker_when_the_first_was_killed_meanwhile(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        disk = Disk(own_redis, tmp_path / "disk")
        command = [sys.executable, "-c", ONE_THAT_IS_KILLED, own_redis.url, str(tmp_path / "spool")]
        first = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, start_new_session=True)
        async with asyncio.timeout(60):
            assert first.stdout is not None
            assert await first.stdout.readline() == b"charged\n"
            disk.kill_redis()
            assert await first.wait() == -signal.SIGKILL
        own_redis.start()

        async with worker(own_redis, tmp_path / "spool", "two") as (_, ledger, _):
            ledger.start()
            await until(lambda: books.credit()["cum"] == 13)

    async def test_gets_nothing_of_what_it_has_had_for_long(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        async with worker(own_redis, tmp_path) as (_, ledger, commits):
            await charge(ledger, await reserve_one(own_redis, 0))
            long_ago = time.monotonic()
            await asyncio.sleep(PAUSE_S)
            await charge(ledger, await reserve_one(own_redis, 1))
            commits.forget(long_ago + WINDOW_S)
            books.redis.flushall()

            commits.repeat()
            await until(lambda: books.credit()["cum"] == 13)

        assert books.charge("req_0") == {}

    async def test_gets_nothing_twice_however_often_the_line_breaks(
        self, own_redis: RedisServer, books: Books, tmp_path: Path
    ) -> None:
        async with worker(own_redis, tmp_path) as (store, ledger, commits):
            for i in range(3):
                await charge(ledger, await reserve(charges_over(store), f"req_{i}"))
            for _ in range(3):
                commits.repeat()
                await asyncio.sleep(PAUSE_S)
            await until(lambda: not commits.waits(redis_keys.credit(ADA.subject)))
            assert is_charged(books, 39)
            books.redis.flushall()

            commits.repeat()
            await until(lambda: books.credit()["cum"] == 39)

        assert books.answers()["answers"] == "3"
