"""Chunks as bytes: whatever text a node sends, the client gets that text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from engineio.packet import MESSAGE, Packet
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.streams import StreamReader

from blueprints.socket.frames import PATH, ChunkEvents, event, frames
from tests.socket.conftest import Door
from tests.socket.wire import read, signed_in

HOSTILE = [
    "\r\n\r\ndata: [DONE]\n\n",
    "event: error\ndata: x",
    '"}],["inference_error",{"message":"',
    "42/ws/inference,[]",
    "\x1e\x1e4",
    "\\ud800 \\u0000 \\",
    "\u2028\u2029\x00\x7f\x85",
    "안녕하세요 😀👩‍👩‍👧",
    "</script><!--",
    "",
    " ",
    "x" * 70_000,
    "가" * 30_000,
]
TEXTS = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(HOSTILE)
FRAME_SIZES = [0, 1, 60, 77, 78, 79, 125, 126, 127, 65_480, 65_500, 65_536, 65_600]


def parsed(data: bytes) -> list[str]:
    """The messages of a WebSocket's bytes, as the websockets package reads them."""
    reader, found = StreamReader(), []
    reader.feed_data(data)
    while reader.buffer:
        frame = _read(reader)
        assert (frame.opcode, frame.fin) == (Opcode.TEXT, True)
        found.append(bytes(frame.data).decode())
    return found


def _read(reader: StreamReader) -> Frame:
    reading = Frame.parse(reader.read_exact, mask=False)
    try:
        next(reading)
    except StopIteration as result:
        frame: Frame = result.value
        return frame
    raise AssertionError("an incomplete frame")


class TestChunks:
    @settings(max_examples=200)
    @given(st.lists(TEXTS, min_size=5, max_size=20), st.integers(1, 10**9), st.none() | st.just("a.b-C_1"))
    def test_the_text_that_is_parsed_is_the_text_that_was_sent(
        self, pieces: list[str], first: int, request_id: str | None
    ) -> None:
        chunks = [read(packet) for packet in parsed(frames(ChunkEvents(request_id)(first, pieces)))]
        named = {} if request_id is None else {"request_id": request_id}
        expected: list[list[Any]] = [
            ["inference_chunk", {"data": piece, "seq": first + index, **named}] for index, piece in enumerate(pieces)
        ]
        assert chunks == expected

    @pytest.mark.parametrize("size", FRAME_SIZES)
    def test_frames_of_every_length_are_read_back(self, size: int) -> None:
        texts = ["x" * size, "end"]
        packets = ChunkEvents(None)(1, texts)
        assert [read(packet)[1]["data"] for packet in parsed(frames(packets))] == texts

    def test_korean_is_not_escaped(self) -> None:
        assert "안녕".encode() in ChunkEvents(None)(1, ["안녕"])[0]

    def test_an_event_is_one_packet_of_the_namespace(self) -> None:
        assert event("name", {"a": 1}) == b'2/ws/inference,["name",{"a":1}]'
        assert json.loads(event("name", {"a": 1}).removeprefix(f"2{PATH},".encode())) == ["name", {"a": 1}]


class TestBothWays:
    @pytest.mark.asyncio
    async def test_hostile_texts_come_out_of_both_ways_as_they_went_in(self, door: Door) -> None:
        async with signed_in(door) as (websocket, session):
            for text in HOSTILE:
                [packet] = ChunkEvents(None)(1, [text])
                await session.deliver([packet])
                await session.send(Packet(MESSAGE, packet.decode()))
                assert read(await websocket.recv())[1]["data"] == text
                assert read(await websocket.recv())[1]["data"] == text
