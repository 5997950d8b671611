"""
A JSON-RPC endpoint in a process of its own that loses, refuses and is late by chance.

    with FaultyRpc(chain.url, seed=7) as rpc:
        rpc.misbehave({"eth_sendRawTransaction": Rates(drop_after=0.2)})

"*" stands for all methods that are not named.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import random
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any, Self

import aiohttp
from aiohttp import web

from workers import child


@dataclass(frozen=True, slots=True)
class Rates:
    """Shares of the calls, from 0 to 1."""

    drop: float = 0  # the connection is cut before the chain hears of it
    drop_after: float = 0  # and after
    bad_gateway: float = 0
    stale: float = 0  # "latest" is up to `blocks_behind` blocks old
    blocks_behind: int = 2


class FaultyRpc:
    """Starts the process, and tells it how to misbehave; it begins as a good one."""

    def __init__(self, target: str, seed: int) -> None:
        self._target, self._seed = target, seed
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where the gateway finds it."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        launcher = [sys.executable, "-I", "-S", child.__file__, str(os.getpid())]
        command = [sys.executable, "-m", __name__, self._target, str(self._seed)]
        self._process = subprocess.Popen([*launcher, *command], stdout=subprocess.PIPE, start_new_session=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.communicate()

    def misbehave(self, rates: dict[str, Rates]) -> None:
        """From the next call on; with nothing, it is good again."""
        self._post("/rates", {method: asdict(each) for method, each in rates.items()})

    def counts(self) -> dict[str, int]:
        """How often it did what."""
        counts: dict[str, int] = self._post("/counts", {})
        return counts

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


class _Endpoint:
    def __init__(self, session: aiohttp.ClientSession, target: str, seed: int) -> None:
        self._session, self._target = session, target
        self._chance = random.Random(seed)
        self._rates: dict[str, Rates] = {}
        self._counts: dict[str, int] = {}

    async def set_rates(self, request: web.Request) -> web.Response:
        self._rates = {method: Rates(**each) for method, each in (await request.json()).items()}
        return web.json_response({})

    async def tell_counts(self, _: web.Request) -> web.Response:
        return web.json_response(self._counts)

    async def call(self, request: web.Request) -> web.Response:
        body = await request.json()
        rates = self._rates.get(body["method"], self._rates.get("*", Rates()))
        if self._happens(rates.drop, "dropped"):
            _cut(request)
        if self._happens(rates.bad_gateway, "502"):
            return web.Response(status=502)
        if "latest" in body["params"] and self._happens(rates.stale, "stale"):
            await self._age(body, rates.blocks_behind)
        answer = await self._forward(body)
        if self._happens(rates.drop_after, "dropped after"):
            _cut(request)
        return web.json_response(answer)

    def _happens(self, rate: float, name: str) -> bool:
        if self._chance.random() >= rate:
            return False
        self._counts[name] = self._counts.get(name, 0) + 1
        return True

    async def _age(self, body: dict[str, Any], blocks: int) -> None:
        head = await self._forward({"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []})
        past = hex(max(0, int(head["result"], 16) - self._chance.randint(1, blocks)))
        body["params"] = [past if param == "latest" else param for param in body["params"]]

    async def _forward(self, body: dict[str, Any]) -> Any:
        async with self._session.post(self._target, json=body) as answer:
            return await answer.json()


def _cut(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()
    raise asyncio.CancelledError


async def serve(target: str, seed: int) -> None:
    """Listens on a free port, which it prints, for ever."""
    async with aiohttp.ClientSession() as session:
        endpoint = _Endpoint(session, target, seed)
        app = web.Application()
        app.router.add_post("/rates", endpoint.set_rates)
        app.router.add_post("/counts", endpoint.tell_counts)
        app.router.add_post("/", endpoint.call)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
