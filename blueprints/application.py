"""The Sanic application: its settings, the doors, and the life of the services behind them."""

from __future__ import annotations

from functools import partial
from typing import Any

import ujson
from sanic import Sanic
from sanic_ext import Extend

import blueprints
from blueprints.injection import PlannedInjection
from blueprints.lifecycle import Lifecycle
from blueprints.routing import AnyCaseRouter
from blueprints.socket.connection import SessionConnection
from conf.log_config import log_config
from conf.settings import Settings
from core.bootstrap.web import open_services
from core.draining import grace_s
from core.nodes.router import ATTEMPTS

NAME = "plumise"
MARGIN_S = 30


def build(settings: Settings) -> Sanic[Any, Any]:
    """The application; `ctx.protocol` is what its connections speak."""
    dumps = partial(ujson.dumps, ensure_ascii=False, escape_forward_slashes=False)
    app = Sanic(NAME, router=AnyCaseRouter(), env_prefix=None, log_config=log_config(settings), dumps=dumps)
    _configure(app, settings)
    Extend(app, extensions=[PlannedInjection], built_in_extensions=False)
    blueprints.register(app, settings)
    Lifecycle(settings, open_services).attach(app)
    app.ctx.protocol = SessionConnection
    return app


def _configure(app: Sanic[Any, Any], settings: Settings) -> None:
    app.config.update(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "FALLBACK_ERROR_FORMAT": "json",
            "GRACEFUL_SHUTDOWN_TIMEOUT": grace_s(settings.shutdown_timeout_s),
            "KEEP_ALIVE_TIMEOUT": 15,
            "MOTD": False,
            "REQUEST_MAX_SIZE": settings.max_body_bytes,
            # Sanic's clock only ends what our own deadlines let through.
            "RESPONSE_TIMEOUT": settings.node_total_timeout_s * ATTEMPTS + MARGIN_S,
            "TOUCHUP": True,
        }
    )
    if settings.proxies_count > 0:
        app.config.PROXIES_COUNT = settings.proxies_count
