"""What a connection may ask for, and what becomes of one that asks for more."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed

from blueprints.socket import server
from blueprints.socket.frames import PATH
from blueprints.socket.limits import EVENTS_AT_ONCE, MOST_ANSWERS, PACKETS_AT_ONCE, Allowance
from blueprints.socket.packets import TextPacket
from tests.socket.conftest import Client, Door
from tests.socket.test_events import ASKED
from tests.socket.wire import emitted, opened, polling, read, signed_in, until_closed

UNSOUND = [
    "45-/ws/inference,[]",
    '451-/ws/inference,["inference",{"_placeholder":true,"num":0}]',
    "461-/ws/inference,1[]",
    "44/ws/inference,{}",
    "47/ws/inference,[]",
    "4x",
    "4",
    "42/ws/inference",
    "42/ws/inference,{}",
    "42/ws/inference,[]",
    "42/ws/inference,[1]",
    '42/ws/inference,["connect"]',
    '42/ws/inference,["connect",{},{"token":"x"}]',
    '42/ws/inference,["disconnect","x"]',
    '42/ws/inference,["inference"',
    "42/ws/inference," + "[" * 40 + "]" * 40,
    '42/ws/inference,["inference",NaN]',
    "43/ws/inference,1{}",
    '40/ws/inference,["token"]',
    "bAAAA",
    "",
    "9",
]


class TestAllowance:
    def test_a_pause_gives_no_more_than_the_burst(self) -> None:
        allowance = Allowance(20, 40, now=0.0)
        assert [allowance.take(1000.0) for _ in range(41)] == [True] * 40 + [False]

    def test_it_comes_back_at_its_pace(self) -> None:
        allowance = Allowance(20, 40, now=0.0)
        for _ in range(40):
            allowance.take(0.0)
        assert [allowance.take(now / 1000) for now in range(0, 1000, 10)].count(True) == 19


class TestTooMuch:
    @pytest.mark.asyncio
    async def test_too_many_events_are_refused_and_the_connection_stays(self, door: Door) -> None:
        async with signed_in(door) as (websocket, _):
            for _ in range(EVENTS_AT_ONCE + 20):
                await websocket.send(emitted("inference_cancel", {"request_id": "a"}))
            told = [read(await websocket.recv())[1]["statusCode"] for _ in range(EVENTS_AT_ONCE + 20)]
            assert told.count(404) >= EVENTS_AT_ONCE  # which ask Redis first, and may be told after a refusal
            assert 429 in told
            await asyncio.sleep(0.2)
            await websocket.send(emitted("inference_cancel", {"request_id": "a"}))
            assert read(await websocket.recv())[1]["statusCode"] == 404

    @pytest.mark.asyncio
    async def test_one_who_floods_is_cut_before_he_has_signed_in(self, door: Door) -> None:
        async with opened(door) as websocket:
            with suppress(ConnectionClosed):
                for _ in range(20 * PACKETS_AT_ONCE):
                    await websocket.send("40/nope,")
            await until_closed(websocket)
        assert await door.is_empty()

    @pytest.mark.asyncio
    async def test_one_answer_too_many_is_refused_until_another_has_ended(self, door: Door, client: Client) -> None:
        for _ in range(MOST_ANSWERS):
            assert (await client.call("inference_stream", ASKED))["status"] == "ok"
        assert (await client.call("inference_stream", ASKED))["statusCode"] == 429
        await (await door.answers.next(3)).end()
        assert (await client.call("inference_stream", ASKED))["status"] == "ok"

    @pytest.mark.asyncio
    async def test_answers_that_could_not_begin_take_no_room(self, client: Client) -> None:
        for _ in range(MOST_ANSWERS):
            assert (await client.call("inference_resume", {"request_id": "a"}))["statusCode"] == 404
        assert (await client.call("inference_stream", ASKED))["status"] == "ok"

    @pytest.mark.asyncio
    async def test_a_message_over_1_mib_ends_the_connection(self, door: Door) -> None:
        async with signed_in(door) as (websocket, _):
            await websocket.send(emitted("inference", {"prompt": "x" * 1024 * 1024}))
            await until_closed(websocket)
        assert await door.is_empty()


class TestStrangers:
    @pytest.mark.asyncio
    async def test_a_session_that_joins_nothing_ends_soon(self, door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server, "JOIN_S", 0.3)
        async with opened(door) as idle, signed_in(door) as (member, _):
            await until_closed(idle)

            await member.send(emitted("inference_cancel", {"request_id": "a"}))
            assert read(await member.recv())[0] == "inference_error"

    @pytest.mark.asyncio
    async def test_there_is_room_for_so_many_who_have_shown_no_token(
        self, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server, "MOST_STRANGERS", 2)
        url = f"{door.url}/socket.io/?EIO=4&transport=polling"
        async with aiohttp.ClientSession() as http, signed_in(door), signed_in(door), opened(door):
            async with opened(door) as last:
                async with http.get(url) as refused:
                    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
                await last.close()
            async with asyncio.timeout(5):
                while door.server.eio.is_crowded:
                    await asyncio.sleep(0.01)

            async with http.get(url) as welcome:
                assert welcome.status == 200


class TestUnsoundPackets:
    @pytest.mark.asyncio
    @pytest.mark.parametrize("packet", UNSOUND)
    async def test_one_ends_its_websocket_and_no_other(
        self, door: Door, client: Client, packet: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with signed_in(door) as (websocket, _):
            await websocket.send(packet)
            await until_closed(websocket)
        assert (await client.call("inference_stream", ASKED))["status"] == "ok"
        assert not _errors(caplog)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("packet", [packet for packet in UNSOUND if packet])
    async def test_one_in_a_post_ends_its_session(
        self, door: Door, packet: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with polling(door) as poller:
            await poller.post(packet)
            assert await poller.is_over()
        assert await door.is_empty()
        assert not _errors(caplog)

    @pytest.mark.asyncio
    async def test_a_binary_frame_ends_its_websocket(self, door: Door) -> None:
        async with opened(door) as websocket:
            await websocket.send(b"x" * 1000)
            await until_closed(websocket)
        assert await door.is_empty()

    @pytest.mark.asyncio
    async def test_too_many_packets_in_one_post_end_the_session(self, door: Door) -> None:
        async with polling(door) as poller:
            await poller.post(*["3"] * 17)
            assert await poller.is_over()
        assert await door.is_empty()

    def test_a_packet_that_waits_for_attachments_is_refused(self) -> None:
        with pytest.raises(ValueError, match="not taken"):
            TextPacket(encoded_packet='51-/ws/inference,["inference",{"_placeholder":true,"num":0}]')

    def test_sound_ones_are_read_as_the_library_reads_them(self) -> None:
        packet: Any = TextPacket(encoded_packet='2/ws/inference,7["inference",{"a":"안"}]')
        assert (packet.namespace, packet.id, packet.data) == (PATH, 7, ["inference", {"a": "안"}])


def _errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
