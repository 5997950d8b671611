"""
A JSON-RPC endpoint between the gateway and a chain: it counts, delays, drops, and lies.

    with RpcProxy(chain.url) as rpc:
        rpc.fault = Fault.DROP
        rpc.calls["eth_call"]

Its attributes may be changed at any time; the next request follows them.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import aiohttp
from aiohttp import web

from bench.ports import free_port
from tests.fakes.threaded_server import ThreadedServer, end


class Fault(StrEnum):
    """How the endpoint misbehaves."""

    HANG = "hang"
    DROP = "drop"  # the connection is cut before the chain hears of it
    DROP_AFTER = "drop-after"  # and after
    BAD_GATEWAY = "502"
    GARBAGE = "garbage"
    LARGE = "large"
    ERROR = "error"  # a JSON-RPC error
    NULL = "null"  # no result
    REDIRECT = "redirect"
    OTHER_CHAIN = "other-chain"  # it says that it has chain id 1


@dataclass
class RpcProxy(ThreadedServer):
    """One endpoint before `target`."""

    target: str
    fault: Fault | None = None
    faults: dict[str, Fault] = field(default_factory=dict)  # of single methods
    delay_s: float = 0.0
    port: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    busiest: int = 0  # requests at once
    _open: int = 0

    @property
    def url(self) -> str:
        """Its address, with something in it that must stay secret."""
        return f"http://127.0.0.1:{self.port}/key-hidden"

    async def _serve(self, started: threading.Event) -> None:
        async with aiohttp.ClientSession() as self._session:
            app = web.Application()
            app.router.add_post("/{path:.*}", self._count)
            runner = web.AppRunner(app, shutdown_timeout=0.01)  # 0 would be for ever
            await runner.setup()
            self.port = self.port or free_port()
            await web.TCPSite(runner, "127.0.0.1", self.port, backlog=2048).start()
            started.set()
            await self._stopped.wait()
            await end(runner)

    async def _count(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.calls[body["method"]] += 1
        self._open += 1
        self.busiest = max(self.busiest, self._open)
        try:
            await asyncio.sleep(self.delay_s)
            return await self._answer(request, body)
        finally:
            self._open -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        fault, said = self.faults.get(body["method"], self.fault), {"jsonrpc": "2.0", "id": body["id"]}
        if fault is Fault.HANG:
            await asyncio.sleep(3600)
        if fault in (Fault.DROP, Fault.DROP_AFTER):
            if fault is Fault.DROP_AFTER:
                await self._forward(body)
            assert request.transport is not None
            request.transport.abort()
        if fault is Fault.OTHER_CHAIN and body["method"] == "eth_chainId":
            return web.json_response({**said, "result": "0x1"})
        lies: dict[Fault, web.Response] = {
            Fault.BAD_GATEWAY: web.Response(status=502, text="key-hidden"),
            Fault.GARBAGE: web.Response(text="<html>"),
            Fault.LARGE: web.json_response({**said, "result": "0x" + "0" * 3_000_000}),
            Fault.ERROR: web.json_response({**said, "error": {"code": -32005, "message": "key-hidden"}}),
            Fault.NULL: web.json_response({**said, "result": None}),
            Fault.REDIRECT: web.Response(status=307, headers={"Location": self.target}),
        }
        if fault in lies:
            return lies[fault]
        return web.json_response(await self._forward(body))

    async def _forward(self, body: dict[str, Any]) -> Any:
        async with self._session.post(self.target, json=body) as answer:
            return await answer.json()
