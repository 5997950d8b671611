"""The Oracle's client: what it sends, what it takes for an answer, and where it stops reading."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web

import core
from core.oracle.client import OracleClient, OracleUnavailable, open_oracle
from tests.fakes.oracle_server import NODES, TOPOLOGY, Fault, OracleServer, node_row


@pytest.fixture
def oracle() -> Iterator[OracleServer]:
    """An Oracle that also echoes what is posted to it."""
    server = OracleServer(nodes=[node_row("0xaa", "http://203.0.113.7:31331")])
    server.add_routes([web.post("/echo", _echo)])
    with server:
        yield server


@pytest_asyncio.fixture
async def client(oracle: OracleServer) -> AsyncIterator[OracleClient]:
    """A client that waits half a second."""
    async with open_oracle(oracle.url, timeout_s=0.5) as opened:
        yield opened


async def _echo(request: web.Request) -> web.Response:
    seen = {"body": (await request.read()).decode(), "headers": dict(request.headers)}
    return web.json_response(seen, status=int(request.query.get("status", "201")))


@pytest.mark.asyncio
class TestGet:
    async def test_it_gives_the_decoded_answer(self, client: OracleClient, oracle: OracleServer) -> None:
        assert await client.get(NODES) == {"count": 1, "nodes": oracle.nodes}

    async def test_a_models_slash_and_blank_arrive_as_they_are(self, client: OracleClient) -> None:
        answer = await client.get(TOPOLOGY, model="a/b c&d=é")

        assert answer["model"] == "a/b c&d=é"

    async def test_it_asks_for_plain_bytes_and_tells_no_more_than_needed(
        self, client: OracleClient, oracle: OracleServer
    ) -> None:
        await client.get(NODES)

        headers = oracle.requests[0][2]
        assert headers["Accept-Encoding"] == "identity"
        assert not {"Cookie", "Authorization"} & set(headers)

    @pytest.mark.parametrize("fault", [fault for fault in Fault if fault != Fault.EMPTY])
    async def test_whatever_else_comes_is_no_answer(
        self, client: OracleClient, oracle: OracleServer, fault: Fault
    ) -> None:
        oracle.fault, oracle.redirect_to = fault, f"{oracle.url}/echo"

        with pytest.raises(OracleUnavailable):
            await client.get(NODES)
        assert oracle.asked("/echo") == 0

    async def test_deep_json_is_refused_also_by_a_process_that_knows_wallets(self, oracle: OracleServer) -> None:
        """One of the wallets' libraries raises the recursion limit so far that the parser would overflow the stack."""
        program = "import core.bootstrap.web, msgspec; msgspec.json.decode(b'[' * 100_000)"
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stderr=asyncio.subprocess.PIPE, cwd=Path(core.__file__).parent.parent
        )
        _, said = await process.communicate()

        assert process.returncode == 1
        assert b"RecursionError" in said

    async def test_a_missing_page_is_no_answer(self, client: OracleClient) -> None:
        with pytest.raises(OracleUnavailable, match="it answered 404"):
            await client.get("/api/v1/nodes/active")

    async def test_an_oracle_that_is_away_is_told_apart_from_a_slow_one(self, oracle: OracleServer) -> None:
        oracle.fault = Fault.HANG
        async with open_oracle(oracle.url, timeout_s=0.2) as client:
            with pytest.raises(OracleUnavailable, match="it did not answer in time"):
                await client.get(NODES)
        await asyncio.to_thread(oracle.stop)
        async with open_oracle(oracle.url) as client:
            with pytest.raises(OracleUnavailable, match="no connection"):
                await client.get(NODES)
        oracle.start()

    async def test_proxies_of_the_environment_are_not_used(
        self, client: OracleClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")

        assert (await client.get(NODES))["count"] == 1

    async def test_it_serves_on_after_a_bad_answer(self, client: OracleClient, oracle: OracleServer) -> None:
        oracle.fault = Fault.LARGE
        with pytest.raises(OracleUnavailable, match="too large"):
            await client.get(NODES)
        oracle.fault = None

        assert (await client.get(NODES))["count"] == 1


@pytest.mark.asyncio
class TestPost:
    async def test_the_bytes_are_compact_json_in_utf8(self, client: OracleClient) -> None:
        body: dict[str, Any] = {"b": [1, 2.5, "한"], "a": {"x": None}}

        answer = await client.post("/echo", body, {"x-api-key": "k3y"})

        assert answer.status == 201
        assert answer.body["body"] == '{"b":[1,2.5,"한"],"a":{"x":null}}'
        assert json.loads(answer.body["body"]) == body
        assert answer.body["headers"]["x-api-key"] == "k3y"
        assert answer.body["headers"]["Content-Type"] == "application/json"

    async def test_a_refusal_is_an_answer(self, client: OracleClient) -> None:
        assert (await client.post("/echo?status=400", {})).status == 400

    @pytest.mark.parametrize(
        ("fault", "status"), [(Fault.ERROR, 500), (Fault.GARBAGE, 200), (Fault.LARGE, 200), (Fault.REDIRECT, 307)]
    )
    async def test_a_status_counts_whatever_came_with_it(
        self, client: OracleClient, oracle: OracleServer, fault: Fault, status: int
    ) -> None:
        oracle.fault, oracle.redirect_to = fault, f"{oracle.url}/echo"

        answer = await client.post("/elsewhere", {})

        assert answer.status == status
        assert answer.body is None or status == 500
        assert oracle.asked("/echo") == 0

    @pytest.mark.parametrize("fault", [Fault.HANG, Fault.CUT])
    async def test_no_answer_is_told(self, client: OracleClient, oracle: OracleServer, fault: Fault) -> None:
        oracle.fault = fault

        with pytest.raises(OracleUnavailable):
            await client.post("/echo", {})
