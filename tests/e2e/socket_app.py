"""The gateway with a namespace that only echoes, for tests of the transport: `python -m tests.e2e.socket_app`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import socketio
from sanic import Request, Sanic
from sanic.response import HTTPResponse, json

import app as gateway


class Echo(socketio.AsyncNamespace):  # type: ignore[misc] # it carries no types
    """Answers what it is asked, and counts aloud."""

    def __init__(self, namespace: str) -> None:
        super().__init__(namespace)
        self._counting: set[str] = set()

    async def on_echo(self, sid: str, data: Any) -> Any:
        """The same as an event, and the worker as acknowledgement."""
        await self.emit("echo", data, to=sid)
        return {"pid": os.getpid()}

    async def on_count(self, sid: str, data: Any) -> None:
        """Numbers from 0 on, `gap_s` apart."""
        session_id = self.server.manager.eio_sid_from_sid(sid, self.namespace)
        self._counting.add(session_id)
        for number in range(data["to"]):
            await self.emit("number", number, to=sid)
            await asyncio.sleep(data.get("gap_s", 0))
        self._counting.discard(session_id)

    def busy_sessions(self) -> set[str]:
        """Those that are counted to."""
        return self._counting


def create_app() -> Sanic[Any, Any]:
    app = gateway.create_app()
    app.ctx.socket_server.register_namespace(Echo("/echo"))
    app.add_route(state, "/state", name="test_state")
    return app


async def state(request: Request) -> HTTPResponse:
    """What this worker holds."""
    ctx = request.app.ctx
    return json(
        {
            "pid": os.getpid(),
            "sessions": len(ctx.socket_server.eio.sockets),
            "connections": len(ctx.connections),
            "fds": len(list(Path("/proc/self/fd").iterdir())),
        }
    )


if __name__ == "__main__":
    sys.exit(gateway.main(sys.argv[1:], create_app))
