"""The gateway: `python app.py` runs all of it; `create_app` is for Sanic's own command line."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from logging.config import dictConfig
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from conf.log_config import log_config
from conf.settings import EXIT_CODE, InvalidSettings, Settings, environment, hand_down, publish_redis_url
from core.bootstrap.derived import read_catalog
from core.catalog import InvalidCatalog
from core.draining import grace_s
from core.late import import_late, leave_out
from workers.embedded_redis import NoRedis, embedded_redis
from workers.listeners import CantListen, bound_sockets, meeting_folder
from workers.tie import tie_to_main

if TYPE_CHECKING:
    from sanic import Sanic

NAME, PRELOAD = "plumise", "preload"
# What imports them here are clients among servers' code: python-socketio's own, and the chain's without a contract.
SELDOM_USED = ("aiohttp", "requests", "attrs", "yaml")
# eth_account's reader of key files, whose mathematics take half of a worker's start.
KEY_FILES = {"eth_keyfile": ("create_keyfile_json", "decode_keyfile_json"), "eth_keyfile.keyfile": ("KDFType",)}

log = logging.getLogger(NAME)


def create_app() -> Sanic[Any, Any]:
    """The application from the environment and `.env`, for Sanic's own command line."""
    return build_app(Settings.load())


def create_worker_app() -> Sanic[Any, Any]:
    """The application of a web worker of this command: it knows what was handed down to it, and no wallet's key."""
    return build_app(Settings.inherited())


def build_app(settings: Settings) -> Sanic[Any, Any]:
    """The application of a web worker."""
    return load_web()(settings)


def load_web() -> Callable[[Settings], Sanic[Any, Any]]:
    """Loads what web workers need, and main does not; the result builds their application."""
    import_late(*SELDOM_USED)
    for module, members in KEY_FILES.items():
        leave_out(module, *members)
    from blueprints.application import build  # noqa: PLC0415 - see above

    return build


def main(argv: list[str], create_app: Callable[[], Sanic[Any, Any]] = create_worker_app) -> int:
    """Runs the gateway until a stop signal; the result is the exit code."""
    options = _options(argv)
    try:
        given = environment()
        settings, keys = Settings.from_env(given), hand_down(given)
        read_catalog(settings)
        _ensure_charges_can_wait(settings)
        dictConfig(log_config(settings))
        return _run(settings, create_app, None if options.web_only else keys)
    except (InvalidSettings, InvalidCatalog, NoRedis) as problem:
        print(problem, file=sys.stderr)
        return EXIT_CODE
    except CantListen as problem:
        print(problem, file=sys.stderr)
        return 1


def _ensure_charges_can_wait(settings: Settings) -> None:
    """Without Redis, what was charged waits on the disk. Raises InvalidSettings when it can't."""
    if settings.inference_payment_address is None:
        return
    try:
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=settings.data_dir):
            pass
    except OSError as problem:
        example = "Example: PLUMISE_DATA_DIR=/var/lib/plumise"
        raise InvalidSettings(
            [f"PLUMISE_DATA_DIR: {settings.data_dir} can't be used: {problem.strerror}. {example}"]
        ) from problem


def _options(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python app.py", description="The Plumise Inference API. Its settings are environment variables."
    )
    parser.add_argument("--web-only", action="store_true", help="leave the background worker to a process of its own")
    return parser.parse_args(argv)


def _run(settings: Settings, create_app: Callable[[], Sanic[Any, Any]], background: dict[str, str] | None) -> int:
    """`background` are the keys that the background worker gets; None leaves it to another command."""
    from workers.processes import ProcessManager, WebServer  # noqa: PLC0415 - as above

    at = url_of(settings.host, settings.port)
    ready = partial(log.info, "listening on %s, %d workers", at, settings.workers)
    with bound_sockets(settings.host, settings.port, settings.workers) as listeners, meeting_folder() as meeting:
        web = WebServer(create_app, meeting)
        manager = ProcessManager(web, listeners, grace_s(settings.shutdown_timeout_s) + 2, ready, PRELOAD)
        if background is not None:
            manager.manage("Background", run_background, {"keys": background}, restartable=True)
        with _redis(settings, web_only=background is None):
            return manager.run()


def url_of(host: str, port: int) -> str:
    """The gateway's address as a URL: an IPv6 address stands in brackets there."""
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_background(keys: dict[str, str]) -> None:
    """The background worker as one of this command's processes."""
    tie_to_main()
    from workers import background  # noqa: PLC0415 - as above

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
