"""The gateway: `python app.py` runs all of it; `create_app` is for Sanic's own command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from logging.config import dictConfig
from typing import Any

import ujson
from sanic import Sanic
from sanic_ext import Extend

import blueprints
from blueprints.injection import PlannedInjection
from blueprints.lifecycle import Lifecycle, OpenServices, grace_s
from blueprints.routing import AnyCaseRouter
from blueprints.socket.connection import SessionConnection
from conf.log_config import log_config
from conf.settings import EXIT_CODE, InvalidSettings, Settings, hand_down, publish_redis_url
from core.bootstrap.derived import read_catalog
from core.bootstrap.web import open_services
from core.catalog import InvalidCatalog
from core.nodes.router import ATTEMPTS
from workers.embedded_redis import NoRedis, embedded_redis
from workers.listeners import CantListen, bound_sockets, meeting_folder
from workers.processes import ProcessManager, WebServer, tie_to_main

NAME = "plumise"
MARGIN_S = 30

log = logging.getLogger(NAME)


def create_app() -> Sanic[Any, Any]:
    """The application from the environment and `.env`, for Sanic's own command line."""
    return build_app(Settings.load())


def create_worker_app() -> Sanic[Any, Any]:
    """The application of a web worker of this command: it knows what was handed down to it, and no wallet's key."""
    return build_app(Settings.inherited())


def build_app(settings: Settings, open_services: OpenServices = open_services) -> Sanic[Any, Any]:
    """The application; `open_services` says what it serves with."""
    dumps = partial(ujson.dumps, ensure_ascii=False, escape_forward_slashes=False)
    app = Sanic(NAME, router=AnyCaseRouter(), env_prefix=None, log_config=log_config(settings), dumps=dumps)
    _configure(app, settings)
    Extend(app, extensions=[PlannedInjection], built_in_extensions=False)
    blueprints.register(app, settings)
    Lifecycle(settings, open_services).attach(app)
    return app


def _configure(app: Sanic[Any, Any], settings: Settings) -> None:
    app.config.update(
        {
            "ACCESS_LOG": False,
            "AUTO_EXTEND": False,
            "FALLBACK_ERROR_FORMAT": "json",
            "GRACEFUL_SHUTDOWN_TIMEOUT": grace_s(settings),
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


def main(argv: list[str], create_app: Callable[[], Sanic[Any, Any]] = create_worker_app) -> int:
    """Runs the gateway until a stop signal; the result is the exit code."""
    options = _options(argv)
    try:
        settings, keys = Settings.load(), hand_down()
        read_catalog(settings)
        dictConfig(log_config(settings))
        return _run(settings, create_app, None if options.web_only else keys)
    except (InvalidSettings, InvalidCatalog, NoRedis) as problem:
        print(problem, file=sys.stderr)
        return EXIT_CODE
    except CantListen as problem:
        print(problem, file=sys.stderr)
        return 1


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python app.py", description="The Plumise Inference API. Its settings are environment variables."
    )
    parser.add_argument("--web-only", action="store_true", help="leave the background worker to a process of its own")
    return parser.parse_args(argv)


def _run(settings: Settings, create_app: Callable[[], Sanic[Any, Any]], background: dict[str, str] | None) -> int:
    """`background` are the keys that the background worker gets; None leaves it to another command."""
    at = f"http://{settings.host}:{settings.port}"
    ready = partial(log.info, "listening on %s, %d workers", at, settings.workers)
    with bound_sockets(settings.host, settings.port, settings.workers) as listeners, meeting_folder() as meeting:
        web = WebServer(create_app, SessionConnection, meeting)
        manager = ProcessManager(web, listeners, grace_s(settings) + 2, ready)
        if background is not None:
            manager.manage("Background", run_background, {"keys": background}, restartable=True)
        with _redis(settings, web_only=background is None):
            return manager.run()


def run_background(keys: dict[str, str]) -> None:
    """The background worker as one of this command's processes."""
    from workers import background  # noqa: PLC0415 - what only this process needs is not loaded into the others

    tie_to_main()
    sys.exit(background.main_with_settler(keys))


@contextmanager
def _redis(settings: Settings, *, web_only: bool) -> Iterator[None]:
    """The Redis that the settings name, else one of our own for all processes of this command."""
    if settings.redis_url is not None:
        yield
        return
    if web_only:
        log.warning("REDIS_URL is not set: this Redis is this command's own, and no background worker can reach it")
    with embedded_redis(settings.data_dir) as url:
        publish_redis_url(url)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
