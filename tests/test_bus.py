"""The bus between processes, over a real Redis: order, counts, and what a break does to it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from core import bus as bus_module
from core.bus import Bus, open_bus
from core.errors import StoreUnavailable
from tests.fakes.redis_server import RedisServer


@pytest_asyncio.fixture
async def here(redis_url: str) -> AsyncIterator[Bus]:
    """One process' bus."""
    async with open_bus(redis_url) as bus:
        yield bus


@pytest_asyncio.fixture
async def there(redis_url: str) -> AsyncIterator[Bus]:
    """Another process' bus."""
    async with open_bus(redis_url) as bus:
        yield bus


async def until(true: Callable[[], bool]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


class TestBus:
    @pytest.mark.asyncio
    async def test_messages_arrive_once_and_in_the_order_of_their_sender(self, here: Bus, there: Bus) -> None:
        heard: list[bytes] = []
        await there.subscribe("a", heard.append)

        for number in range(2000):
            here.post("a", b"%d" % number)
        here.post("a", b"last")

        await until(lambda: heard[-1:] == [b"last"])
        assert heard == [*(b"%d" % number for number in range(2000)), b"last"]

    @pytest.mark.asyncio
    async def test_a_publisher_learns_how_many_processes_received_it(self, here: Bus, there: Bus) -> None:
        await there.subscribe("a", lambda _: None)

        assert await here.publish("a", b"") == 1
        assert await here.publish("b", b"") == 0

        await here.subscribe("a", lambda _: None)
        assert await here.publish("a", b"") == 2

    @pytest.mark.asyncio
    async def test_a_topic_that_was_left_is_heard_no_more(self, here: Bus, there: Bus) -> None:
        heard: list[bytes] = []
        await there.subscribe("a", heard.append)
        await there.subscribe("b", heard.append)
        await there.unsubscribe("a")
        await there.unsubscribe("never heard of")

        here.post("a", b"gone")
        here.post("b", b"heard")

        await until(lambda: heard == [b"heard"])

    @pytest.mark.asyncio
    async def test_bytes_are_not_changed_on_the_way(self, here: Bus, there: Bus) -> None:
        heard: list[bytes] = []
        await there.subscribe("a", heard.append)
        message = bytes(range(256)) * 1000

        await here.publish("a", message)

        await until(lambda: heard == [message])

    @pytest.mark.asyncio
    async def test_a_receiver_that_fails_does_not_silence_the_others(self, here: Bus, there: Bus) -> None:
        heard: list[bytes] = []

        def fail(_: bytes) -> None:
            raise ValueError("no")

        await there.subscribe("a", fail)
        await there.subscribe("b", heard.append)

        here.post("a", b"")
        here.post("b", b"1")

        await until(lambda: heard == [b"1"])

    @pytest.mark.asyncio
    async def test_it_closes_whatever_it_is_just_doing(self, redis_url: str) -> None:
        for turns in range(40):
            async with asyncio.timeout(10), open_bus(redis_url) as bus:
                await asyncio.sleep(0.001)
                bus.post("a", b"")
                for _ in range(turns):
                    await asyncio.sleep(0)


class TestRedisAway:
    @pytest.mark.asyncio
    async def test_publishing_fails_at_once_and_works_again_when_redis_is_back(self, tmp_path: Path) -> None:
        server = RedisServer(tmp_path)
        server.start()
        try:
            async with open_bus(server.url) as bus:
                heard: list[bytes] = []
                back: list[bool] = []
                bus.when_back(lambda: back.append(True))
                await bus.subscribe("a", heard.append)
                server.stop()
                bus.post("a", b"lost")
                with pytest.raises(StoreUnavailable):
                    await asyncio.wait_for(bus.publish("a", b"lost as well"), 1)
                server.start()
                await until(lambda: bool(back))

                assert await bus.publish("a", b"heard") == 1
                await until(lambda: heard == [b"heard"])
        finally:
            server.stop()

    @pytest.mark.asyncio
    async def test_a_bus_opens_without_redis_and_subscribes_later(self, tmp_path: Path) -> None:
        server = RedisServer(tmp_path)
        async with open_bus(server.url) as bus:
            heard: list[bytes] = []
            await bus.subscribe("a", heard.append)
            server.start()
            try:
                await until(lambda: bus.is_heard)
                assert await bus.publish("a", b"1") == 1
                await until(lambda: heard == [b"1"])
            finally:
                server.stop()

    @pytest.mark.asyncio
    async def test_each_break_is_told_when_it_begins_and_when_it_ends(self, own_redis: RedisServer) -> None:
        async with open_bus(own_redis.url) as bus:
            told: list[str] = []
            bus.when_lost(lambda: told.append("lost"))
            bus.when_back(lambda: told.append("back"))
            await until(lambda: bus.is_heard)

            own_redis.stop()
            await until(lambda: told == ["lost"])
            own_redis.start()
            await until(lambda: told == ["lost", "back"])
            own_redis.stop()
            own_redis.start()
            await until(lambda: told == ["lost", "back"] * 2)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("is_busy", [False, True])
    async def test_signs_of_life_are_no_younger_than_the_life(
        self, own_redis: RedisServer, monkeypatch: pytest.MonkeyPatch, is_busy: bool
    ) -> None:
        monkeypatch.setattr(bus_module, "LOOK_S", 0.1)
        async with open_bus(own_redis.url) as bus:
            signs: list[float] = []
            lost: list[bool] = []
            bus.when_alive(signs.append)
            bus.when_lost(lambda: lost.append(True))
            await bus.subscribe("a", lambda _: None)
            while len(signs) < 3:
                if is_busy:
                    bus.post("a", b"x")
                await asyncio.sleep(0.01)
            assert own_redis.process is not None

            own_redis.process.send_signal(signal.SIGSTOP)
            stopped_at = time.monotonic()
            await until(lambda: bool(lost))
            own_redis.stop()

            assert signs == sorted(signs)
            assert signs[-1] <= stopped_at

    @pytest.mark.asyncio
    async def test_a_flood_that_nobody_can_send_is_refused(self, tmp_path: Path) -> None:
        async with open_bus(RedisServer(tmp_path).url) as bus:
            for _ in range(65):
                bus.post("a", b"x" * 1024 * 1024)

            with pytest.raises(StoreUnavailable):
                bus.post("a", b"x")
