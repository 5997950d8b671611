"""The life of a process besides the web workers: from its settings to the first stop signal."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from logging.config import dictConfig
from typing import Any

import uvloop

from conf.log_config import log_config
from conf.settings import EXIT_CODE, InvalidSettings, Settings
from core.catalog import InvalidCatalog
from core.ending import end
from workers.periodic import Job
from workers.signals import on_first_stop

CLOSING_S = 3  # platforms kill what has not ended 5 s after a stop signal


def live(load: Callable[[], Settings], run: Callable[[Settings], Coroutine[Any, Any, int]]) -> int:
    """Runs with the settings, or says what is wrong with them; the result is the exit code."""
    try:
        settings = _with_redis(load())
        dictConfig(log_config(settings))
        return uvloop.run(run(settings))
    except (InvalidSettings, InvalidCatalog) as problem:
        print(problem, file=sys.stderr)  # noqa: T201 - for whoever starts it by hand
        return EXIT_CODE


def stop_signal() -> asyncio.Event:
    """Is set by the first stop signal; from here on none of them ends the process by itself."""
    stopped = asyncio.Event()
    on_first_stop(partial(asyncio.get_running_loop().call_soon_threadsafe, stopped.set))
    return stopped


async def work(jobs: Sequence[Job], stopped: asyncio.Event) -> None:
    """Does all of the jobs until then."""
    tasks = [asyncio.create_task(job.run()) for job in jobs]
    await stopped.wait()
    with suppress(TimeoutError):
        await asyncio.wait_for(end(tasks), CLOSING_S)


def _with_redis(settings: Settings) -> Settings:
    if settings.redis_url is None:
        raise InvalidSettings(
            [
                "REDIS_URL: is not set, and only `python app.py` brings its own. Example: REDIS_URL=redis://localhost:6379/0"
            ]
        )
    return settings
