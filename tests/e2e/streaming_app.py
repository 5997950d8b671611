"""The gateway with a few slow routes, for tests of how its processes end: `python -m tests.e2e.streaming_app`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from sanic import Request, Sanic
from sanic.response import HTTPResponse, json

import app as gateway
from core.draining import Drain


def create_app() -> Sanic[Any, Any]:
    app = gateway.create_app()
    app.add_route(process, "/process", name="test_process")
    app.add_route(echo, "/echo", methods=["POST"], name="test_echo")
    app.add_route(stream, "/stream", name="test_stream")
    app.add_route(stuck, "/stuck", name="test_stuck")
    return app


async def process(_: Request) -> HTTPResponse:
    """Which worker answers."""
    return json({"pid": os.getpid()})


async def echo(request: Request) -> HTTPResponse:
    """What reached the worker."""
    return json({"pid": os.getpid(), "bytes": len(request.body)})


async def stream(request: Request) -> None:
    """`n` numbered events, `gap` seconds apart; an interrupt ends it with an error event."""
    count, gap_s = int(request.args.get("n", "10")), float(request.args.get("gap", "0.1"))
    drain: Drain = request.app.ctx.services.drain
    interrupted = asyncio.Event()
    drain.add_interrupt(interrupted.set)
    response = await request.respond(content_type="text/event-stream")
    for number in range(count):
        await response.send(f"data: {number}\n\n")
        try:
            await asyncio.wait_for(interrupted.wait(), gap_s)
        except TimeoutError:
            continue
        await response.send("event: error\ndata: interrupted\n\n")
        break
    else:
        await response.send("data: [DONE]\n\n")


async def stuck(request: Request) -> None:
    """Ignores every interrupt; writes down whether Redis still answers when it is cancelled at last."""
    response = await request.respond(content_type="text/event-stream")
    await response.send("data: 0\n\n")
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.3)
        redis = (await request.app.ctx.services.readiness.report())["redis"]
        Path("stuck.txt").write_text(redis, "utf-8")


if __name__ == "__main__":
    sys.exit(gateway.main(sys.argv[1:], create_app))
