"""The push channel, and the job that listens to it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from core.ending import end
from core.nodes.address_guard import AddressGuard
from core.oracle.client import open_oracle
from core.oracle.listings import Sieve
from core.oracle.nodes import OracleNodes
from core.oracle.push import PushChannel
from core.store import Store
from tests.fakes.oracle_server import CAPACITY, NODES, Fault, OracleServer, node_row
from tests.oracle.test_nodes import CATALOG, URL_A, A
from workers.discovery import GAP_S, Discovery
from workers.periodic import Job

NEVER_S = 3600


@pytest.fixture
def oracle() -> Iterator[OracleServer]:
    """An Oracle that can be restarted."""
    with OracleServer() as server:
        yield server


@contextlib.asynccontextmanager
async def running(*jobs: Job) -> AsyncIterator[None]:
    """Runs jobs; cancelled, they leave nothing behind."""
    before = asyncio.all_tasks()
    tasks = [asyncio.create_task(job.run()) for job in jobs]
    try:
        yield
    finally:
        async with asyncio.timeout(20):
            await end(tasks)
        assert all(task.cancelled() for task in tasks)
        await until(lambda: asyncio.all_tasks() <= before | set(tasks))


async def until(condition: Callable[[], bool], within_s: float = 20) -> float:
    """Waits for a condition; how long it took. Raises TimeoutError."""
    began = time.monotonic()
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.01)
    return time.monotonic() - began


async def until_some(nodes: OracleNodes) -> None:
    """Waits for a node. Raises TimeoutError."""
    async with asyncio.timeout(20):
        while not await nodes.listed():
            await asyncio.sleep(0.01)


OPENING = '0{"sid":"x","upgrades":[],"pingInterval":100,"pingTimeout":200,"maxPayload":1000000}'


@contextlib.asynccontextmanager
async def peer(said: list[str | bytes]) -> AsyncIterator[tuple[str, list[list[str]]]]:
    """A server that says just this on every connection, and waits; gives its URL and what each connection sent."""
    heard: list[list[str]] = []

    async def serve(request: web.Request) -> web.WebSocketResponse:
        heard.append(texts := [])
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        with contextlib.suppress(ConnectionError):
            for message in said:
                await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        while (answer := await socket.receive()).type is WSMsgType.TEXT:
            texts.append(answer.data)
        return socket

    app = web.Application()
    app.router.add_get("/socket.io/", serve)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), heard


@pytest.mark.asyncio
class TestPushChannel:
    async def test_it_calls_back_when_it_is_there_and_for_every_event(self, oracle: OracleServer) -> None:
        calls: list[float] = []
        async with running(PushChannel(oracle.url, lambda: calls.append(1))):
            await until(lambda: len(calls) == 1)
            for event in ("pipeline:topology", "pipeline:nodeStatus", "pipeline:nodeJoined", "anything"):
                await asyncio.to_thread(oracle.push, event, {"address": A})
            await until(lambda: len(calls) == 5)

    async def test_it_comes_back_after_the_oracle_was_away(
        self, oracle: OracleServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        calls: list[float] = []
        with caplog.at_level(logging.INFO):
            async with running(PushChannel(oracle.url, lambda: calls.append(1))):
                await until(lambda: len(calls) == 1)
                await asyncio.to_thread(oracle.stop)
                await until(lambda: len(caplog.messages) == 2)
                await asyncio.to_thread(oracle.start)
                await until(lambda: len(calls) == 2)

        assert caplog.messages == [
            "the Oracle's push channel is there",
            "the Oracle's push channel is away: it is only polled",
            "the Oracle's push channel is there",
        ]

    @pytest.mark.parametrize("message", [b"\x00\xff", [b"x", {"y": b"z"}], None, "x" * 3_000_000, {"a": ["b"] * 1000}])
    async def test_no_message_does_harm(self, oracle: OracleServer, message: Any) -> None:
        calls: list[float] = []
        async with running(PushChannel(oracle.url, lambda: calls.append(1))):
            await until(lambda: len(calls) == 1)
            await asyncio.to_thread(oracle.push, "pipeline:nodeJoined", message)
            await asyncio.to_thread(oracle.wait_for_listener)
            await asyncio.to_thread(oracle.push, "pipeline:nodeJoined", {})
            await until(lambda: len(calls) >= 2)

    async def test_an_attachment_is_one_line_in_the_log_and_another_connection(
        self, oracle: OracleServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            async with running(PushChannel(oracle.url, lambda: None)):
                await asyncio.to_thread(oracle.wait_for_listener)
                await until(lambda: len(caplog.messages) == 1)
                await asyncio.to_thread(oracle.push, "pipeline:nodeJoined", b"\x00\xff")
                await until(lambda: len(caplog.messages) >= 3)
            gc.collect()  # a task's exception that nobody has seen is told of now

        assert caplog.messages == [
            "the Oracle's push channel is there",
            "the Oracle's push channel is away, since it breaks its protocol: it is only polled",
            "the Oracle's push channel is there",
        ]

    @pytest.mark.parametrize(
        "said",
        [
            [b"\xff"],
            [""],
            ["0"],
            ["0[]"],
            ['0{"sid":"x"}'],
            ['0{"pingInterval":-1,"pingTimeout":20000}'],
            ['0{"pingInterval":1%s,"pingTimeout":20000}' % ("0" * 400)],
            ["0" + "[" * 100_000],
            ["x" * 3_000_000],
            [OPENING, b"4"],
            [OPENING, "40/pipeline", b"\xff"],
            [OPENING, "40/pipeline,[]", "4", "42", "42/pipeline,{", "9", "", "1"],
            [OPENING, "44/pipeline"],
            [OPENING, "40/pipeline", "41/pipeline"],
            [OPENING],
        ],
    )
    async def test_whatever_it_says_another_connection_follows(
        self, said: list[str | bytes], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("core.oracle.push.TIMEOUT_S", 0.5)
        async with peer(said) as (url, heard), running(PushChannel(url, lambda: None)):
            await until(lambda: len(heard) >= 2)
            gc.collect()

        assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    async def test_it_answers_pings_and_leaves_an_oracle_that_sends_none(self) -> None:
        async with peer([OPENING, "40/pipeline", "2", "2"]) as (url, heard), running(PushChannel(url, lambda: None)):
            await until(lambda: len(heard) >= 2)

        assert heard[0] == ["40/pipeline,", "3", "3"]

    async def test_redirects_are_not_followed(self, oracle: OracleServer) -> None:
        with OracleServer(redirect_to=f"{oracle.url}/canary") as elsewhere:
            elsewhere.faults["/socket.io/"] = Fault.REDIRECT
            async with running(PushChannel(elsewhere.url, lambda: None)):
                await until(lambda: elsewhere.asked("/socket.io/") > 0)
                await asyncio.sleep(0.2)

        assert oracle.requests == []


@pytest_asyncio.fixture
async def nodes(oracle: OracleServer, store: Store) -> AsyncIterator[OracleNodes]:
    """The source that the job fills."""
    async with open_oracle(oracle.url) as client:
        yield OracleNodes(client, store, Sieve(CATALOG, AddressGuard()))


@contextlib.asynccontextmanager
async def discovering(oracle: OracleServer, nodes: OracleNodes) -> AsyncIterator[None]:
    """Runs the job, which by itself polls only once; another poll came when its push channel was there."""
    async with running(*Discovery(nodes, oracle.url, NEVER_S).jobs()):
        await until(lambda: oracle.listeners == 1 and oracle.asked(NODES) >= 2)
        yield


@pytest.mark.asyncio
class TestDiscovery:
    async def test_a_change_is_known_soon_after_the_oracle_tells_of_it(
        self, oracle: OracleServer, nodes: OracleNodes
    ) -> None:
        async with discovering(oracle, nodes):
            oracle.nodes = [node_row(A, URL_A)]
            await asyncio.to_thread(oracle.push, "pipeline:nodeJoined", {"address": A})
            await until_some(nodes)

            assert [one.url for one in await nodes.listed()] == [URL_A]

    async def test_what_the_event_says_is_not_believed(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        async with discovering(oracle, nodes):
            asked = oracle.asked(CAPACITY)
            await asyncio.to_thread(oracle.push, "pipeline:topology", {"nodes": [{"httpEndpoint": URL_A}]})
            await until(lambda: oracle.asked(CAPACITY) > asked)

        assert await nodes.listed() == []

    async def test_a_storm_of_events_is_few_polls(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        async with discovering(oracle, nodes):
            asked, began = oracle.asked(NODES), time.monotonic()
            for _ in range(100):
                await asyncio.to_thread(oracle.push, "pipeline:nodeStatus", {})
            await until(lambda: oracle.asked(NODES) > asked)

            assert oracle.asked(NODES) - asked <= 1 + (time.monotonic() - began) / GAP_S

    async def test_an_oracle_that_fails_does_not_end_it(self, oracle: OracleServer, nodes: OracleNodes) -> None:
        oracle.fault = Fault.GARBAGE
        async with discovering(oracle, nodes):
            oracle.fault, oracle.nodes = None, [node_row(A, URL_A)]
            await asyncio.to_thread(oracle.push, "pipeline:nodeJoined", {})
            await until_some(nodes)
