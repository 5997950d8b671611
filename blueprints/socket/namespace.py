"""The namespace /ws/inference."""

from __future__ import annotations

from typing import Any

import socketio
from sanic import Sanic

PATH = "/ws/inference"


class InferenceNamespace(socketio.AsyncNamespace):  # type: ignore[misc] # it carries no types
    """Accepts everybody and answers `echo`."""

    def __init__(self, app: Sanic) -> None:
        super().__init__(PATH)
        self._app = app

    async def on_connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> None:
        """Anybody may connect."""

    async def on_echo(self, sid: str, data: Any) -> Any:
        """Answers with an event and an acknowledgement."""
        await self.emit("echo", data, to=sid)
        return data
