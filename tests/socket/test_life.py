"""How a connection ends, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from websockets.frames import Frame, Opcode

from blueprints.socket.frames import PATH
from core.errors import ShuttingDown
from tests.socket.conftest import Client, Door
from tests.socket.test_events import ASKED
from tests.socket.wire import emitted, polling, signed_in


class TestLeaving:
    @pytest.mark.asyncio
    async def test_a_client_that_leaves_cancels_its_answers(self, door: Door) -> None:
        async with polling(door) as poller:
            await poller.post(emitted("inference_stream", ASKED | {"request_id": "a"}))
            answer = await door.answers.next()
            await poller.post(f"41{PATH},")
            await asyncio.wait_for(answer.wait(), 5)
        assert answer.done == "cancelled"

    @pytest.mark.asyncio
    async def test_one_that_says_so_with_its_last_bytes_does_too(self, door: Door) -> None:
        leaving = Frame(Opcode.TEXT, f"41{PATH},".encode()).serialize(mask=True)
        closing = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
        for number in range(20):
            async with signed_in(door) as (websocket, _):
                await websocket.send(emitted("inference_stream", ASKED))
                answer = await door.answers.next(number)
                websocket.transport.write(leaving + closing)
                await asyncio.wait_for(answer.wait(), 5)
                assert answer.done == "cancelled"
        assert await door.is_empty()

    @pytest.mark.asyncio
    async def test_a_dropped_websocket_only_lets_go_of_them(self, door: Door) -> None:
        async with signed_in(door) as (websocket, _):
            await websocket.send(emitted("inference_stream", ASKED | {"request_id": "a"}))
            answer = await door.answers.next()
            websocket.transport.abort()
            await asyncio.wait_for(answer.wait(), 5)
        assert answer.done == "detached"
        assert await door.is_empty()

    @pytest.mark.asyncio
    async def test_a_dropped_poll_does_so_too(self, door: Door) -> None:
        async with polling(door) as poller:
            await poller.post(emitted("inference_stream", ASKED | {"request_id": "a"}))
            answer = await door.answers.next()
            waiting = asyncio.create_task(poller.poll())
            await asyncio.sleep(0.1)
            waiting.cancel()
            await asyncio.wait_for(answer.wait(), 5)
        assert answer.done == "detached"

    @pytest.mark.asyncio
    async def test_what_an_answer_says_to_one_who_is_gone_is_a_connection_error(self, door: Door) -> None:
        async with signed_in(door) as (websocket, _):
            await websocket.send(emitted("inference_stream", ASKED))
            answer = await door.answers.next()
        assert await door.is_empty()
        with pytest.raises(ConnectionError):
            await answer.say("x")


class TestShutdown:
    @pytest.mark.asyncio
    async def test_no_answer_begins_any_more_and_running_ones_go_on(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED)
        answer = await door.answers.next()
        door.drain.begin()
        refused = await client.call("inference_stream", ASKED)
        assert (refused["statusCode"], refused["retryable"]) == (503, True)
        await answer.say("x")
        await answer.fail(ShuttingDown())
        told = await client.told(3)
        assert [name for name, _ in told] == ["inference_error", "inference_chunk", "inference_error"]


class TestNothingIsLeft:
    @pytest.mark.asyncio
    async def test_after_200_sessions_the_books_are_empty(self, door: Door, caplog: pytest.LogCaptureFixture) -> None:
        for number in range(200):
            async with signed_in(door) as (websocket, _):
                await websocket.send(emitted("inference_stream", ASKED | {"request_id": str(number)}))
                await door.answers.next(number)
                if number % 2:
                    websocket.transport.abort()
        assert await door.is_empty()
        manager = door.server.manager
        assert [manager.callbacks, manager.pending_connect, manager.pending_disconnect] == [{}, {}, {}]
        assert not [room for rooms in manager.rooms.values() for room in rooms.values() if len(room)]
        assert all(answer.done for answer in door.answers.all)
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    @pytest.mark.asyncio
    async def test_no_task_outlives_a_session(self, door: Door) -> None:
        async with signed_in(door):
            pass
        assert await door.is_empty()
        before = len(asyncio.all_tasks())
        for _ in range(20):
            async with signed_in(door) as (websocket, _):
                await websocket.send(emitted("inference_stream", ASKED))
        assert await door.is_empty()
        for _ in range(100):
            if len(asyncio.all_tasks()) <= before:
                break
            await asyncio.sleep(0.02)
        assert len(asyncio.all_tasks()) <= before
