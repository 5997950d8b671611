"""The floor of our own stack: Sanic and aiohttp pass bytes on, unchecked. `bare_relay.py PORT NODE_URL`."""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
from sanic import Sanic
from sanic.request import Request
from sanic.response import HTTPResponse, raw

app: Sanic[Any, Any] = Sanic("bare_relay", configure_logging=False)
PORT, NODE_URL = int(sys.argv[1]), sys.argv[2]


@app.before_server_start
async def open_session(app: Sanic[Any, Any]) -> None:
    """One pool of connections to the node, without a limit."""
    app.ctx.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False)


@app.after_server_stop
async def close_session(app: Sanic[Any, Any]) -> None:
    """The pool ends with the server."""
    await app.ctx.session.close()


@app.post("/v1/chat/completions")
async def relay(request: Request) -> HTTPResponse | None:
    """The node's answer as it comes."""
    headers = {"Content-Type": "application/json"}
    async with app.ctx.session.post(NODE_URL + request.path, data=request.body, headers=headers) as answer:
        kind = answer.headers["Content-Type"]
        if "event-stream" not in kind:
            return raw(await answer.read(), content_type=kind)
        response = await request.respond(content_type=kind)
        async for part in answer.content.iter_any():
            await response.send(part)
        await response.eof()
        return None


if __name__ == "__main__":
    app.run("127.0.0.1", PORT, single_process=True, access_log=False, motd=False)
