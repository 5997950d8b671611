"""The relay between machines: order, room, ends, and what hostile neighbours put on the bus."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from blueprints.socket.link import WINDOW, Link, LinkEnded
from blueprints.socket.messages import Accept, Answer, Ask, Beat, End, Frame, OfLink, Taken, decode, encode
from blueprints.socket.relay import Relay
from core import redis_keys
from core.bus import Bus, open_bus
from tests.test_bus import until

OWNER = "owner000"
TOPIC = redis_keys.to_worker(OWNER, "socket")


def pair() -> tuple[Link, Link]:
    """Both ends of a link, with nothing in between."""
    ends: list[Link] = []
    ends += [Link("1", "b", partial(_to, ends, 1)), Link("1", "a", partial(_to, ends, 0))]
    return ends[0], ends[1]


def _to(ends: list[Link], end: int, message: OfLink) -> None:
    ends[end].receive(message)


class TestLink:
    @pytest.mark.asyncio
    async def test_frames_arrive_in_order_in_both_directions(self) -> None:
        one, other = pair()
        texts = [str(number) for number in range(500)]

        async def send(link: Link) -> None:
            for text in texts:
                await link.send(text)

        async def take(link: Link) -> list[str | None]:
            return [await link.recv() for _ in texts]

        _, _, came, went = await asyncio.gather(send(one), send(other), take(one), take(other))
        assert came == went == texts

    @pytest.mark.asyncio
    async def test_a_sender_waits_for_one_that_does_not_take(self) -> None:
        one, other = pair()
        for number in range(WINDOW):
            await one.send(str(number))

        waiting = asyncio.create_task(one.send("more"))
        await asyncio.sleep(0.01)
        assert not waiting.done()

        for _ in range(WINDOW // 2):
            await other.recv()
        await asyncio.wait_for(waiting, 5)

    @pytest.mark.asyncio
    async def test_what_came_before_the_end_is_still_taken(self) -> None:
        one, other = pair()
        await one.send("last words")
        await one.close()

        assert await other.recv() == "last words"
        assert await other.recv() is None
        with pytest.raises(LinkEnded):
            await other.send("too late")

    @pytest.mark.asyncio
    async def test_the_end_frees_a_sender_and_a_receiver(self) -> None:
        one, other = pair()
        receiving = asyncio.create_task(other.recv())
        for _ in range(WINDOW):
            await other.send("x")
        sending = asyncio.create_task(other.send("x"))
        await asyncio.sleep(0)
        await one.close()

        assert await asyncio.wait_for(receiving, 5) is None
        with pytest.raises(LinkEnded):
            await asyncio.wait_for(sending, 5)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("numbers", [[1], [0, 2], [0, 0]], ids=["first lost", "one lost", "one twice"])
    async def test_a_gap_is_the_end(self, numbers: list[int]) -> None:
        posted: list[OfLink] = []
        link = Link("1", "other", posted.append)
        for number in numbers:
            link.receive(Frame("1", number, "x"))

        assert link.ended

    @pytest.mark.asyncio
    async def test_more_than_there_is_room_for_is_the_end(self) -> None:
        link = Link("1", "other", lambda _: None)
        for number in range(10 * WINDOW):
            link.receive(Frame("1", number, "x"))

        assert link.ended


class Owner:
    """Stands for the Socket.IO server: answers, or echoes a WebSocket."""

    def __init__(self) -> None:
        self.cancelled = self.ended = 0

    async def serve(self, request: Any) -> Any:
        websocket = await request.transport.get_protocol().websocket_handshake(request)
        while (text := await websocket.recv()) is not None:
            await websocket.send(text)
        self.ended += 1

    async def wait(self, request: Any) -> Any:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@asynccontextmanager
async def relaying(bus: Bus, serve: Any) -> AsyncIterator[None]:
    """The owner's relay, open."""
    relay = Relay(bus, OWNER, serve)
    await relay.open()
    try:
        yield
    finally:
        await relay.aclose()


@pytest_asyncio.fixture
async def bus(redis_url: str) -> AsyncIterator[Bus]:
    """The owner's."""
    async with open_bus(redis_url) as opened:
        yield opened


@pytest_asyncio.fixture
async def heard(redis_url: str) -> AsyncIterator[tuple[Bus, list[Any]]]:
    """An asker by hand, and what it hears."""
    async with open_bus(redis_url) as opened:
        messages: list[Any] = []
        await opened.subscribe(redis_keys.to_worker("asker000", "socket"), lambda data: messages.append(decode(data)))
        yield opened, messages


def ask(link: str = "1") -> bytes:
    return encode(Ask(link, "asker000", "GET", "http://host/socket.io/", [(b"x", b"\xff")], b""))


def besides_beats(messages: list[Any]) -> list[Any]:
    """What is said of links; on a busy machine a beat may come before it, or after it."""
    return [message for message in messages if not isinstance(message, Beat)]


Heard = tuple[Bus, list[Any]]


class TestOwner:
    @pytest.mark.asyncio
    async def test_a_websocket_is_served_in_order(self, bus: Bus, heard: Heard) -> None:
        asker, messages = heard
        async with relaying(bus, Owner().serve):
            asker.post(TOPIC, ask())
            for number in range(10):
                asker.post(TOPIC, encode(Frame("1", number, str(number))))
            await until(lambda: len([m for m in messages if isinstance(m, Frame)]) == 10)
        await until(lambda: besides_beats(messages)[-1] == End("1"))

        assert besides_beats(messages)[0] == Accept("1")
        assert [m.data for m in messages if isinstance(m, Frame)] == [str(number) for number in range(10)]

    @pytest.mark.asyncio
    async def test_a_poll_ends_when_its_client_leaves(self, bus: Bus, heard: Heard) -> None:
        asker, owner = heard[0], Owner()
        async with relaying(bus, owner.wait):
            asker.post(TOPIC, ask())
            asker.post(TOPIC, encode(End("1")))

            await until(lambda: owner.cancelled == 1)

    @pytest.mark.asyncio
    async def test_a_websocket_ends_soon_after_its_asker_died(self, bus: Bus, redis_url: str) -> None:
        owner = Owner()
        async with relaying(bus, owner.serve):
            async with open_bus(redis_url) as asker:
                await asker.subscribe(redis_keys.to_worker("asker000", "socket"), lambda _: None)
                await asker.publish(TOPIC, ask())

            await until(lambda: owner.ended == 1)

    @pytest.mark.asyncio
    async def test_two_workers_tell_each_other_that_they_live(self, bus: Bus, heard: Heard) -> None:
        asker, messages = heard
        async with relaying(bus, Owner().serve):
            asker.post(TOPIC, ask())

            await until(lambda: Beat(OWNER) in messages)

    @pytest.mark.asyncio
    async def test_a_session_that_fails_is_a_bad_request(self, bus: Bus, heard: Heard) -> None:
        async def fail(_: object) -> None:
            raise ValueError("no")

        asker, messages = heard
        async with relaying(bus, fail):
            asker.post(TOPIC, ask())
            await until(lambda: bool(besides_beats(messages)))

        answer = besides_beats(messages)[0]
        assert (answer.status, answer.link) == (400, "1")


class TestNeighbours:
    @pytest.mark.asyncio
    async def test_what_is_none_of_ours_is_dropped_with_a_line_each(
        self, bus: Bus, heard: Heard, caplog: pytest.LogCaptureFixture
    ) -> None:
        asker, messages = heard
        chance = random.Random(1)
        hostile = [chance.randbytes(chance.randrange(200)) for _ in range(300)]
        hostile += [b"\x80\x04\x95cos\nsystem\n(S'true'\ntR.", b"", encode(End("1"))[:-1], b"\x91" * 100_000]
        hostile.append(msgspec.msgpack.encode({"type": "ask", "link": 1}))
        with caplog.at_level(logging.WARNING):
            async with relaying(bus, Owner().serve):
                for data in hostile:
                    asker.post(TOPIC, data)
                asker.post(TOPIC, ask())
                await until(lambda: Accept("1") in messages)

        dropped = [record for record in caplog.records if "was dropped" in record.message]
        assert len(dropped) == len(caplog.records) == len(hostile)

    @pytest.mark.asyncio
    async def test_messages_of_links_that_nobody_has_change_nothing(self, bus: Bus, heard: Heard) -> None:
        asker, messages = heard
        strays: list[OfLink] = [Answer("9", 200, [], b""), Accept("9"), Frame("9", 0, "x"), Taken("9", 5), End("9")]
        async with relaying(bus, Owner().serve):
            for stray in strays:
                asker.post(TOPIC, encode(stray))
            asker.post(TOPIC, encode(Beat("nobody00")))
            asker.post(TOPIC, ask())
            await until(lambda: Accept("1") in messages)

        assert {message.link for message in messages if not isinstance(message, Beat)} == {"1"}
