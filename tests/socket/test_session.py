"""The two ways to a client: one order, and back-pressure on both."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engineio.packet import MESSAGE, Packet
from websockets.asyncio.client import ClientConnection

from blueprints.socket.frames import PATH, ChunkEvents
from blueprints.socket.session import MOST_QUEUED
from tests.e2e.js_clients import NODE, SCRIPTS
from tests.socket.answers import SpokenAnswer
from tests.socket.conftest import Client, Door
from tests.socket.test_events import ASKED
from tests.socket.wire import emitted, polling, read, signed_in

CHUNK = "x" * 16_384


class TestOrder:
    @pytest.mark.asyncio
    async def test_an_idle_websocket_is_written_to_directly(self, door: Door) -> None:
        async with signed_in(door) as (websocket, session):
            await session.deliver(ChunkEvents(None)(1, ["a", "b"]))
            assert session.queue.empty()
            assert [read(await websocket.recv())[1]["data"] for _ in "ab"] == ["a", "b"]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("seed", range(5))
    async def test_packets_of_both_ways_arrive_in_the_order_in_which_they_were_sent(
        self, door: Door, seed: int
    ) -> None:
        chance, chunks, count = random.Random(seed), ChunkEvents(None), 600
        async with signed_in(door) as (websocket, session):
            reading = asyncio.create_task(_read_seqs(websocket, count))
            for seq in range(1, count + 1):
                [packet] = chunks(seq, ["x" * chance.choice([1, 1, 20_000])])
                if chance.random() < 0.5:
                    await session.deliver([packet])
                else:
                    await session.send(Packet(MESSAGE, packet.decode()))
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            assert await asyncio.wait_for(reading, 20) == list(range(1, count + 1))

    @pytest.mark.asyncio
    @pytest.mark.parametrize("transports", [["polling"], ["websocket"]])
    async def test_streams_side_by_side_are_each_whole(self, door: Door, transports: list[str]) -> None:
        async with Client(door.url) as client:
            await client.connect(door.token, transports)
            for number in range(4):
                await client.emit("inference_stream", ASKED | {"request_id": str(number)})
            answers = [await door.answers.next(number) for number in range(4)]
            await asyncio.gather(*(_speak(answer, 40) for answer in answers))
            told = list(await client.told(4 * 41))
        for number in range(4):
            own = [data for _, data in told if data["request_id"] == str(number)]
            assert [data["seq"] for data in own[:-1]] == list(range(1, 41))
            assert own[-1]["status"] == "done"

    @pytest.mark.asyncio
    async def test_an_upgrade_in_the_middle_of_a_stream_changes_nothing(self, door: Door) -> None:
        """Clients of Node begin by polling, ask at once, and upgrade while they are answered."""
        count = 8
        session = {"namespace": PATH, "options": {"auth": {"token": door.token}}, "emit": [["inference_stream", ASKED]]}
        playing = asyncio.create_task(_play(door, [session | {"name": str(number)} for number in range(count)]))
        speaking = [asyncio.create_task(_speak_through_upgrade(door, number)) for number in range(count)]
        upgraded = await asyncio.gather(*speaking)
        for told in (await playing).values():
            seqs = [data["seq"] for name, data, *_ in told[1:-1] if name == "inference_chunk"]
            assert seqs == list(range(1, len(seqs) + 1))
            assert len(seqs) > 100
            assert [name for name, *_ in told[-2:]] == ["inference_complete", "disconnect"]
        assert any(upgraded)


class TestBackPressure:
    @pytest.mark.asyncio
    async def test_a_websocket_that_is_not_read_stops_the_answer(self, door: Door) -> None:
        async with _unread(door) as (_, answer):
            said = await _say_until_blocked(answer)
            assert said * len(CHUNK) < 24_000_000  # what the kernel's and the client's buffers hold

    @pytest.mark.asyncio
    async def test_one_that_is_read_again_goes_on_without_a_gap(self, door: Door) -> None:
        async with _unread(door) as (websocket, answer):
            saying = asyncio.create_task(_speak(answer, 2000, CHUNK))
            await asyncio.sleep(0.2)
            assert not saying.done()
            seqs = [read(await websocket.recv())[1]["seq"] for _ in range(2000)]
            await saying
            assert seqs == list(range(1, 2001))

    @pytest.mark.asyncio
    async def test_one_that_takes_nothing_for_too_long_is_cut_off(self, door: Door) -> None:
        async with _unread(door) as (_, answer):
            for session in door.server.eio.sockets.values():
                session.write_timeout_s = 0.2
            with pytest.raises(ConnectionError):
                await _speak(answer, 10_000, CHUNK)
            assert await door.is_empty()
            assert answer.done == "detached"

    @pytest.mark.asyncio
    async def test_a_poll_that_does_not_come_stops_the_answer(self, door: Door) -> None:
        async with polling(door) as poller:
            await poller.post(emitted("inference_stream", ASKED))
            answer = await door.answers.next()
            [session] = door.server.eio.sockets.values()
            session.write_timeout_s = 0.3
            with pytest.raises(ConnectionError):
                await _speak(answer, 20 * MOST_QUEUED)
            assert await door.is_empty()
            assert answer.done == "detached"

    @pytest.mark.asyncio
    async def test_a_poll_brings_no_more_packets_than_clients_take(self, door: Door) -> None:
        async with polling(door) as poller:
            await poller.post(emitted("inference_stream", ASKED))
            saying = asyncio.create_task(_speak(await door.answers.next(), 100))
            packets: list[str] = []
            while len(packets) < 101:
                polled = await poller.poll()
                assert len(polled) <= MOST_QUEUED
                packets += polled
            await saying
        assert [read(packet)[1]["seq"] for packet in packets[:100]] == list(range(1, 101))


@asynccontextmanager
async def _unread(door: Door) -> AsyncIterator[tuple[ClientConnection, SpokenAnswer]]:
    """A client that reads only when told, and the answer that it asked for."""
    async with signed_in(door, max_queue=1) as (websocket, _):
        await websocket.send(emitted("inference_stream", ASKED))
        yield websocket, await door.answers.next()
        websocket.transport.abort()


async def _speak(answer: SpokenAnswer, count: int, piece: str = "x") -> None:
    for _ in range(count):
        await answer.say(piece)
    await answer.end()


async def _speak_through_upgrade(door: Door, number: int) -> bool:
    """Speaks until the client has upgraded and a while longer; whether it had to wait for that."""
    answer = await door.answers.next(number)
    session = answer.listener._client._session
    waited = False
    for turn in range(2000):
        await answer.say(str(turn))
        await asyncio.sleep(0.001 if turn % 3 else 0)
        if session.upgraded and turn > 100:
            break
        waited = waited or not session.upgraded
    await answer.say(*"abc")
    await answer.end()
    return waited


async def _play(door: Door, sessions: list[dict[str, Any]]) -> dict[str, Any]:
    argument = json.dumps({"url": door.url, "sessions": sessions})
    node = await asyncio.create_subprocess_exec(
        NODE, SCRIPTS / "sessions.mjs", argument, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await asyncio.wait_for(node.communicate(), 60)
    told: dict[str, Any] = json.loads(output)
    return told


async def _say_until_blocked(answer: SpokenAnswer) -> int:
    said = 0
    try:
        while True:
            async with asyncio.timeout(0.3):
                await answer.say(CHUNK)
            said += 1
    except TimeoutError:
        return said


async def _read_seqs(websocket: ClientConnection, count: int) -> list[int]:
    return [read(await websocket.recv())[1]["seq"] for _ in range(count)]
