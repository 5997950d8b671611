"""
An Oracle for tests: true HTTP and Socket.IO on one port, in a thread of its own, and faults on demand.

    with OracleServer() as oracle:
        oracle.nodes = [node_row(ADDRESS, "http://203.0.113.7:31331")]
        oracle.fault = Fault.HANG
        oracle.push("pipeline:nodeJoined", {...})

Its attributes may be changed at any time; the next request follows them. Other endpoints come from `add_routes`.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import socketio
from aiohttp import web

from bench.ports import free_port
from tests.fakes.threaded_server import ThreadedServer, end

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

NODES, TOPOLOGY, CAPACITY = "/api/nodes", "/api/v1/pipeline/topology", "/api/v1/metrics/capacity"
STANDALONE = 999


class Fault(StrEnum):
    """How the Oracle misbehaves."""

    HANG = "hang"  # nothing at all
    HANG_BODY = "hang-body"  # half an answer
    CUT = "cut"  # half an answer, and the connection is gone
    ERROR = "500"
    GARBAGE = "garbage"  # a web page with status 200
    NOT_UTF8 = "not-utf8"
    DEEP = "deep"  # 100,000 nested lists
    LARGE = "large"  # 10 MB of good JSON
    COMPRESSED = "compressed"  # gzip that nobody asked for; 50 MB unpacked
    REDIRECT = "redirect"  # to `redirect_to`
    EMPTY = "empty"  # {}


@dataclass
class OracleServer(ThreadedServer):
    """One Oracle."""

    nodes: list[Any] = field(default_factory=list)  # rows of /api/nodes
    topology: dict[str, list[Any]] = field(default_factory=dict)  # by model; standalone rows come from `nodes`
    capacity: list[Any] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)  # path → JSON that is sent instead
    fault: Fault | None = None
    faults: dict[str, Fault] = field(default_factory=dict)  # path → fault of this path alone
    redirect_to: str = ""
    port: int = 0

    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)  # method, path and query, headers
    listeners: int = 0  # clients of the push channel
    _routes: list[web.AbstractRouteDef] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def asked(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(where.partition("?")[0] == path for _, where, _ in self.requests)

    def add_routes(self, routes: Iterable[web.AbstractRouteDef]) -> None:
        """More endpoints, before it starts; faults and the record of requests hold for them, too."""
        self._routes += routes

    def push(self, event: str, message: Any) -> None:
        """Tells all listeners of the push channel."""
        telling = self._sockets.emit(event, message, namespace="/pipeline")
        asyncio.run_coroutine_threadsafe(telling, self._loop).result(5)

    def wait_for_listener(self, within_s: float = 10) -> None:
        """Waits until somebody listens to the push channel. Raises TimeoutError."""
        deadline = time.monotonic() + within_s
        while not self.listeners:
            if time.monotonic() > deadline:
                raise TimeoutError
            time.sleep(0.01)

    async def _serve(self, started: threading.Event) -> None:
        self._sockets = socketio.AsyncServer(async_mode="aiohttp", cors_allowed_origins="*")
        self._sockets.on("connect", self._joined, namespace="/pipeline")
        self._sockets.on("disconnect", self._left, namespace="/pipeline")
        app = web.Application(middlewares=[self._record, self._misbehave])
        self._sockets.attach(app)
        app.router.add_get(NODES, self._list_nodes)
        app.router.add_get(TOPOLOGY, self._list_topology)
        app.router.add_get(CAPACITY, self._list_capacity)
        app.add_routes(self._routes)
        runner = web.AppRunner(app, shutdown_timeout=0.01, access_log=None)  # 0 would be for ever
        await runner.setup()
        self.port = self.port or free_port()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        started.set()
        await self._stopped.wait()
        await self._sockets.shutdown()
        await end(runner)
        self.listeners = 0

    async def _joined(self, sid: str, environ: dict[str, Any]) -> None:
        self.listeners += 1

    async def _left(self, sid: str, *_: object) -> None:
        self.listeners = max(0, self.listeners - 1)

    # -- what it answers

    async def _list_nodes(self, _: web.Request) -> web.Response:
        return web.json_response({"count": len(self.nodes), "nodes": self.nodes})

    async def _list_topology(self, request: web.Request) -> web.Response:
        model = request.query.get("model")
        if not model:
            return web.json_response({"statusCode": 400, "message": "Model parameter is required"}, status=400)
        standalone = [_standalone(row, model) for row in self.nodes if _announces(row, model)]
        rows = [*self.topology.get(model, []), *standalone]
        return web.json_response({"model": model, "count": len(rows), "nodes": rows})

    async def _list_capacity(self, _: web.Request) -> web.Response:
        return web.json_response(self.capacity)

    # -- how it misbehaves

    @web.middleware
    async def _record(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self.requests.append((request.method, request.path_qs, dict(request.headers)))
        if request.path in self.answers:
            return web.json_response(self.answers[request.path])
        try:
            return await handler(request)
        except web.HTTPNotFound:
            body = {"message": f"Cannot {request.method} {request.path}", "error": "Not Found", "statusCode": 404}
            return web.json_response(body, status=404)

    @web.middleware
    async def _misbehave(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        usual = None if request.path.startswith("/socket.io") else self.fault
        fault = self.faults.get(request.path, usual)
        if fault is None:
            return await handler(request)
        if fault in (Fault.HANG, Fault.HANG_BODY, Fault.CUT):
            return await self._half(request, fault)
        if fault == Fault.REDIRECT:
            return web.Response(status=307, headers={"Location": self.redirect_to})
        if fault == Fault.ERROR:
            return web.json_response({"statusCode": 500, "message": "Internal server error"}, status=500)
        return bad_answer(fault)

    async def _half(self, request: web.Request, fault: Fault) -> web.StreamResponse:
        answer = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
        if fault != Fault.HANG:
            await answer.prepare(request)
            await answer.write(b'{"count": 1, "nodes": [')
        if fault == Fault.CUT:
            assert request.transport is not None
            request.transport.abort()
        await asyncio.sleep(3600)
        return answer


def bad_answer(fault: Fault) -> web.Response:
    """An answer with status 200 that is none."""
    json, large = "application/json", b'{"nodes": ["' + b"x" * 10_000_000 + b'"]}'
    if fault == Fault.COMPRESSED:
        bomb = gzip.compress(b'{"nodes": [' + b" " * 50_000_000 + b"]}", 1)
        return web.Response(body=bomb, content_type=json, headers={"Content-Encoding": "gzip"})
    bodies = {
        Fault.GARBAGE: b"<html>Under maintenance</html>",
        Fault.NOT_UTF8: b'{"nodes": ["\xff\xfe"]}',
        Fault.DEEP: b"[" * 100_000 + b"]" * 100_000,
        Fault.LARGE: large,
        Fault.EMPTY: b"{}",
    }
    return web.Response(body=bodies[fault], content_type=json)


def node_row(address: str, endpoint: str, *models: str, **changes: Any) -> dict[str, Any]:
    """A row of /api/nodes; `models` are announced as capabilities."""
    usual = {
        "address": address,
        "endpoint": endpoint,
        "status": "active",
        "score": 100,
        "lastHeartbeat": str(int(time.time())),
        "capabilities": ["inference", *models],
    }
    return usual | changes


def topology_row(address: str, endpoint: str, model: str, **changes: Any) -> dict[str, Any]:
    """A row of the topology: the first and only stage of a pipeline."""
    usual = {
        "id": 1,
        "nodeAddress": address,
        "modelName": model,
        "layerStart": 0,
        "layerEnd": 32,
        "totalLayers": 32,
        "grpcEndpoint": "http://203.0.113.1:50051",
        "httpEndpoint": endpoint,
        "ramMb": "16384",
        "device": "cpu",
        "vramMb": "0",
        "benchmarkTokPerSec": 12.5,
        "ready": True,
        "pipelineOrder": 0,
        "createdAt": "2026-01-01T00:00:00.000Z",
        "updatedAt": "2026-01-01T00:00:00.000Z",
    }
    return usual | changes


def capacity_row(address: str, tokens_per_s: float, **changes: Any) -> dict[str, Any]:
    """A row of the capacities."""
    usual = {
        "address": address,
        "epoch": 1,
        "tokensProcessed": "0",
        "requestCount": 0,
        "uptimeSeconds": 60,
        "avgLatencyMs": 0.0,
        "throughputTokPerSec": "0.00",
        "benchmarkTokPerSec": tokens_per_s,
        "device": "unknown",
        "ramMb": 0,
        "vramMb": 0,
    }
    return usual | changes


def _announces(row: Any, model: str) -> bool:
    return isinstance(row, dict) and isinstance(models := row.get("capabilities"), list) and model in models


def _standalone(row: dict[str, Any], model: str) -> dict[str, Any]:
    address = row.get("address")
    bare = topology_row(str(address), str(row.get("endpoint")), model, pipelineOrder=STANDALONE)
    del bare["benchmarkTokPerSec"]
    return bare | {"grpcEndpoint": f"standalone://{address}", "nodeMode": "standalone"}
