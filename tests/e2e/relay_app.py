"""The gateway with hasty pings, for tests of agents that fell silent: `python -m tests.e2e.relay_app`."""

from __future__ import annotations

import sys
from typing import Any

from sanic import Sanic

import app as gateway

PING_S = 0.5


def create_app() -> Sanic[Any, Any]:
    app = gateway.create_app()
    app.config.WEBSOCKET_PING_INTERVAL = app.config.WEBSOCKET_PING_TIMEOUT = PING_S
    return app


if __name__ == "__main__":
    sys.exit(gateway.main(sys.argv[1:], create_app))
