"""Asking agents without any server: frames, faults, and what strangers on the bus can do."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from core import redis_keys
from core.bus import Bus, open_bus
from core.errors import ShuttingDown
from core.nodes.relay import frames, letters
from core.nodes.relay.agents import Agents
from core.nodes.relay.connection import MOST_ASKED, MOST_STRAYS, AgentConnection
from core.nodes.relay.directory import AgentDirectory, Entry
from core.nodes.relay.exchange import RelayExchange
from core.nodes.relay.transport import RelayTransport
from core.nodes.transport.failures import NodeBroken, NodeFailed, NodeSilent, NodeUnreachable
from core.nodes.transport.origin import Request
from core.store import Store, open_store
from tests.fakes.redis_server import RedisServer
from tests.streams import following_bytes

ADDRESS = "0x" + "ab" * 20
URL = f"relay://{ADDRESS}"
ASKED = Request("", b'{"messages":[],"stream":true}', 1_000_000)


def soon(seconds: float = 10.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def until(true: Callable[[], bool]) -> None:
    """Waits until something is so."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.005)


class Worker:
    """What one worker has for agents."""

    def __init__(self, worker_id: str, store: Store, bus: Bus) -> None:
        self.worker_id = worker_id
        self.bus = bus
        self.agents = Agents(worker_id, AgentDirectory(store), bus)
        self.transport = RelayTransport(worker_id, self.agents, bus)
        self.closed: list[tuple[int, str]] = []

    async def join(self) -> AgentConnection:
        """An agent that connects here."""
        connection = await self.agents.join(ADDRESS, "m", lambda *why: self.closed.append(why))
        assert connection is not None
        return connection


@pytest_asyncio.fixture
async def workers(store: Store, redis_url: str) -> AsyncIterator[tuple[Worker, Worker]]:
    """Two of them; the agents connect to the first."""
    async with AsyncExitStack() as stack:
        started = []
        for worker_id in ("worker01", "worker02"):
            worker = Worker(worker_id, store, await stack.enter_async_context(open_bus(redis_url)))
            await worker.transport.start()
            await worker.agents.start()
            stack.push_async_callback(worker.agents.stop)
            started.append(worker)
        yield started[0], started[1]


async def asked_id(connection: AgentConnection) -> str:
    request: dict[str, Any] = json.loads(await asyncio.wait_for(connection.outbox.get(), 10))
    assert request["type"] == "request"
    return str(request["id"])


async def begun(worker: Worker, connection: AgentConnection) -> tuple[RelayExchange, str]:
    """An answer of which the first chunk has come."""
    await until(lambda: worker.agents.entry(ADDRESS) == connection.entry)
    asking = asyncio.create_task(worker.transport.post(URL, ASKED, soon()))
    request_id = await asked_id(connection)
    connection.receive(json.dumps({"type": "chunk", "id": request_id, "content": "a"}))
    return await asking, request_id


@pytest.mark.asyncio
class TestTwoWorkers:
    @pytest.mark.parametrize("place", [0, 1], ids=["directly", "over the bus"])
    async def test_an_answer_comes_in_order(self, workers: tuple[Worker, Worker], place: int) -> None:
        connection = await workers[0].join()
        exchange, request_id = await begun(workers[place], connection)
        for number in range(500):
            connection.receive(json.dumps({"type": "chunk", "id": request_id, "content": f"{number}"}))
        connection.receive(json.dumps({"type": "done", "id": request_id}))

        body = b""
        while chunk := await following_bytes(exchange, soon()):
            body += chunk
        contents = [json.loads(line[6:]).get("content") for line in body.decode().split("\n\n") if line]
        assert contents == ["a", *(f"{number}" for number in range(500)), None]

    @pytest.mark.parametrize("place", [0, 1], ids=["directly", "over the bus"])
    async def test_a_lost_connection_ends_what_waits_for_it(self, workers: tuple[Worker, Worker], place: int) -> None:
        connection = await workers[0].join()
        exchange, _ = await begun(workers[place], connection)
        assert await following_bytes(exchange, soon())

        await workers[0].agents.leave(connection)

        with pytest.raises(NodeBroken):
            await following_bytes(exchange, soon())

    async def test_a_reconnect_to_the_other_worker_closes_the_first_connection(
        self, workers: tuple[Worker, Worker]
    ) -> None:
        here, there = workers
        old = await here.join()
        new = await there.join()

        await until(lambda: here.closed == [(4010, "Replaced by new connection")])
        await here.agents.leave(old)

        assert here.agents.entry(ADDRESS) == there.agents.entry(ADDRESS) == new.entry
        exchange, _ = await begun(here, new)
        exchange.abort()

    async def test_a_worker_that_is_gone_is_noticed_by_the_first_request(
        self, workers: tuple[Worker, Worker], store: Store
    ) -> None:
        dead = Entry(ADDRESS, secrets.token_hex(16), "deadbeef", "m")
        await AgentDirectory(store).join(dead)
        await workers[1].agents.refresh()

        with pytest.raises(NodeUnreachable):
            await workers[1].transport.post(URL, ASKED, soon())
        assert workers[1].agents.entry(ADDRESS) is None
        with pytest.raises(NodeUnreachable):
            await workers[1].transport.post(URL, ASKED, soon())

    async def test_a_gap_in_the_answer_is_a_failure(self, workers: tuple[Worker, Worker]) -> None:
        here, there = workers
        connection = await here.join()
        exchange, request_id = await begun(there, connection)
        await following_bytes(exchange, soon())

        topic = redis_keys.to_worker(there.worker_id, "relay")
        await here.bus.publish(topic, letters.encode(letters.Part(request_id, 7, "chunk", b"{}")))

        with pytest.raises(NodeBroken):
            await following_bytes(exchange, soon())

    async def test_junk_on_the_bus_changes_nothing(self, workers: tuple[Worker, Worker]) -> None:
        here, there = workers
        connection = await here.join()
        exchange, request_id = await begun(there, connection)
        stranger = letters.Part(secrets.token_hex(16), 0, "chunk", b"{}")
        for worker in workers:
            topic = redis_keys.to_worker(worker.worker_id, "relay")
            for junk in (b"", b"\x80\x04.", letters.encode(stranger), letters.encode(letters.Forget("0" * 32))):
                await here.bus.publish(topic, junk)

        connection.receive(json.dumps({"type": "done", "id": request_id}))
        assert b"done" in await following_bytes(exchange, soon()) + await following_bytes(exchange, soon())

    async def test_who_leaves_is_forgotten_at_the_agents_worker(self, workers: tuple[Worker, Worker]) -> None:
        connection = await workers[0].join()
        exchange, _ = await begun(workers[1], connection)

        exchange.abort()

        connection.retire()
        await until(lambda: workers[0].closed == [(1001, "Going away")])  # so nobody waits for it any more

    async def test_agents_of_a_worker_that_ends_are_asked_nothing_more(self, workers: tuple[Worker, Worker]) -> None:
        here, there = workers
        connection = await here.join()
        exchange, request_id = await begun(there, connection)
        here.agents.retire()
        await until(lambda: (entry := there.agents.entry(ADDRESS)) is not None and entry.leaving)

        with pytest.raises(NodeUnreachable):
            await there.transport.post(URL, ASKED, soon())
        connection.receive(json.dumps({"type": "done", "id": request_id}))
        assert b"chunk" in await following_bytes(exchange, soon())
        assert here.closed == [(1001, "Going away")]

    @pytest.mark.parametrize("place", [0, 1], ids=["directly", "over the bus"])
    async def test_an_interruption_reaches_running_and_later_requests(
        self, workers: tuple[Worker, Worker], place: int
    ) -> None:
        exchange, _ = await begun(workers[place], await workers[0].join())

        workers[place].transport.interrupt(ShuttingDown())

        with pytest.raises(ShuttingDown):
            await following_bytes(exchange, soon())
        with pytest.raises(ShuttingDown):
            await workers[place].transport.post(URL, ASKED, soon())

    @pytest.mark.parametrize("place", [0, 1], ids=["directly", "over the bus"])
    async def test_a_silent_agent_is_left_at_the_deadline(self, workers: tuple[Worker, Worker], place: int) -> None:
        connection = await workers[0].join()
        await until(lambda: workers[place].agents.entry(ADDRESS) == connection.entry)

        with pytest.raises(NodeSilent):
            await workers[place].transport.post(URL, ASKED, soon(0.1))

    async def test_an_agent_with_too_much_to_do_is_not_asked(self, workers: tuple[Worker, Worker]) -> None:
        here, there = workers
        connection = await here.join()
        await until(lambda: there.agents.entry(ADDRESS) == connection.entry)
        waiting = [asyncio.create_task(here.transport.post(URL, ASKED, soon())) for _ in range(MOST_ASKED)]
        await until(lambda: connection.outbox.qsize() == MOST_ASKED)

        for worker in workers:
            with pytest.raises(NodeFailed):
                await worker.transport.post(URL, ASKED, soon())
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


@pytest.mark.asyncio
class TestRedisAway:
    async def test_who_leaves_meanwhile_is_off_the_list_soon_after(self, tmp_path: Path) -> None:
        server = RedisServer(tmp_path)
        server.start()
        try:
            async with open_store(server.url) as store, open_bus(server.url) as bus:
                worker = Worker("worker01", store, bus)
                connection = await worker.join()
                server.stop()
                await worker.agents.leave(connection)
                server.start()

                await worker.agents.refresh()

                assert await AgentDirectory(store).sync([]) == (False, [])
        finally:
            server.stop()


@pytest.mark.asyncio
class TestConnection:
    async def test_a_flood_of_messages_for_nobody_ends_it(self) -> None:
        closed: list[tuple[int, str]] = []
        connection = AgentConnection(Entry(ADDRESS, "0" * 32, "worker01", "m"), lambda *why: closed.append(why))

        for _ in range(MOST_STRAYS):
            connection.receive('{"type":"chunk","id":"x","content":"y"}')
        assert not closed
        connection.receive("junk")

        assert closed == [(1008, "Too many messages")]

    @pytest.mark.parametrize("message", ['{"type":"ping"}', '{"type":"x"}', "junk", b"\xff"])
    async def test_so_does_one_of_pings_or_of_unknown_types(self, message: str | bytes) -> None:
        closed: list[tuple[int, str]] = []
        connection = AgentConnection(Entry(ADDRESS, "0" * 32, "worker01", "m"), lambda *why: closed.append(why))

        for _ in range(MOST_STRAYS):
            connection.receive(message)
        assert not closed
        connection.receive(message)

        assert closed == [(1008, "Too many messages")]

    async def test_an_odd_agent_is_in_the_log_once_and_one_that_pings_never(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        connection = AgentConnection(Entry(ADDRESS, "0" * 32, "worker01", "m"), lambda *_: None)

        connection.receive('{"type":"ping"}')
        assert caplog.messages == []
        for message in ("junk", '{"type":"x"}', '{"type":"ping"}', '{"type":"done","id":"x"}'):
            connection.receive(message)

        assert caplog.messages == [f"agent {ADDRESS} sends what is no message"]


class TestLetters:
    @given(st.binary(max_size=80))
    def test_anything_else_is_none(self, data: bytes) -> None:
        assert letters.decode(data) is None

    def test_a_reply_goes_to_a_worker_and_nowhere_else(self) -> None:
        ask = letters.encode(letters.Ask("0" * 32, "0" * 32, "worker01", b"{}"))

        assert letters.decode(ask)
        assert letters.decode(ask.replace(b"worker01", b"a:b}:c{x")) is None


class TestFrames:
    @given(st.text(max_size=60))
    def test_any_text_is_a_frame_or_none(self, text: str) -> None:
        frames.read(text)

    def test_a_frame_in_several_lines_stays_one_event(self) -> None:
        assert frames.event(b'{"type":\r\n"done"}') == b'data: {"type":  "done"}\n\n'
