"""python-socketio's own way: one emit for each token, unchecked. `socket_relay.py PORT NODE_URL`."""

from __future__ import annotations

import sys
from typing import Any

import aiohttp
import socketio
import ujson
from sanic import Sanic

NAMESPACE, CHAT = "/ws/inference", "/v1/chat/completions"
PORT, NODE_URL = int(sys.argv[1]), sys.argv[2]

app: Sanic[Any, Any] = Sanic("socket_relay", configure_logging=False)
app.config.CORS_SUPPORTS_CREDENTIALS = True  # python-socketio asks for it
server = socketio.AsyncServer(async_mode="sanic", cors_allowed_origins=[])
server.attach(app)


@app.before_server_start
async def open_session(app: Sanic[Any, Any]) -> None:
    """One pool of connections to the node, without a limit."""
    app.ctx.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


@app.after_server_stop
async def close_session(app: Sanic[Any, Any]) -> None:
    """The pool ends with the server."""
    await app.ctx.session.close()


@server.on("connect", namespace=NAMESPACE)  # type: ignore[untyped-decorator, unused-ignore]
async def connect(_sid: str, _environ: dict[str, Any], _auth: object) -> bool:
    """Everybody may."""
    return True


@server.on("inference_stream", namespace=NAMESPACE)  # type: ignore[untyped-decorator, unused-ignore]
async def inference_stream(sid: str, asked: dict[str, Any]) -> None:
    """The node's tokens as they come."""
    async with app.ctx.session.post(NODE_URL + CHAT, json={**asked, "stream": True}) as answer:
        async for line in answer.content:
            if not line.startswith(b"data: {"):
                continue
            choices = ujson.loads(line[6:])["choices"]
            if choices:
                await server.emit("inference_chunk", {"data": choices[0]["delta"]["content"]}, sid, namespace=NAMESPACE)
    await server.emit("inference_complete", {"status": "done"}, sid, namespace=NAMESPACE)


if __name__ == "__main__":
    app.run("127.0.0.1", PORT, single_process=True, access_log=False, motd=False)
