"""
The background worker: what the clock triggers, in one process besides the web workers.

`python -m workers.background` runs it alone; `python app.py` runs it as one of its processes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from functools import partial
from logging.config import dictConfig

import uvloop

from conf.log_config import log_config
from conf.settings import EXIT_CODE, InvalidSettings, Settings
from core.access.tier_events import TierEvents
from core.bootstrap.background import BackgroundServices, open_background_services
from core.catalog import InvalidCatalog
from core.clock import SystemClock
from core.ending import end
from core.metrics.reporter import MetricsReporter
from core.oracle.nodes import OracleNodes
from workers import heartbeat, leading, probing, reaping, reporting
from workers.discovery import Discovery
from workers.periodic import Job, Periodic
from workers.signals import on_first_stop
from workers.tier_watch import TierWatch

CLOSING_S = 3  # platforms kill what has not ended 5 s after a stop signal

log = logging.getLogger(__name__)


def main() -> int:
    """The whole life of the process; the result is its exit code."""
    try:
        settings = _checked_settings()
        dictConfig(log_config(settings))
        uvloop.run(run(settings))
    except (InvalidSettings, InvalidCatalog) as problem:
        print(problem, file=sys.stderr)  # noqa: T201 - for whoever starts it by hand
        return EXIT_CODE
    return 0


async def run(settings: Settings) -> None:
    """Does the jobs until the first stop signal."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    on_first_stop(partial(loop.call_soon_threadsafe, stopped.set))
    async with open_background_services(settings) as services:
        tasks = [asyncio.create_task(job.run()) for job in jobs(settings, services)]
        log.info("background worker started")
        await stopped.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(end(tasks), CLOSING_S)


def jobs(settings: Settings, services: BackgroundServices) -> list[Periodic]:
    """What every background worker does, and how often."""
    beat = partial(heartbeat.beat, services.store, SystemClock())
    lead = partial(leading.lead, services.lease, leaders_jobs(settings, services))
    return [
        Periodic("the heartbeat", beat, heartbeat.EVERY_S),
        Periodic("reaping", partial(reaping.reap, services.reaper), reaping.EVERY_S),
        Periodic("asking for the lead", lead, leading.EVERY_S),
    ]


def leaders_jobs(settings: Settings, services: BackgroundServices) -> list[Job]:
    """What only the one that leads does; what it writes for all carries `services.lease.fence`."""
    fleet, prober = services.fleet, services.prober
    return [
        Periodic("probing the nodes", partial(probing.probe, prober), settings.node_probe_interval_s),
        Periodic("probing new nodes", partial(probing.probe_new, prober), probing.NEW_EVERY_S),
        Periodic("sharing the nodes' health", partial(probing.share, fleet), probing.SHARE_EVERY_S),
        *discovery_jobs(settings, services.oracle_nodes),
        *reporting_jobs(settings, services.reporter),
        *payment_jobs(settings, services.tier_events),
    ]


def discovery_jobs(settings: Settings, nodes: OracleNodes | None) -> list[Job]:
    """None without an Oracle that could be asked."""
    if nodes is None or settings.oracle_api_url is None:
        return []
    return Discovery(nodes, settings.oracle_api_url, settings.node_discovery_interval_s).jobs()


def reporting_jobs(settings: Settings, reporter: MetricsReporter | None) -> list[Periodic]:
    """None without an Oracle to report to."""
    if reporter is None:
        return []
    return [Periodic("reporting to the Oracle", partial(reporting.report, reporter), settings.metrics_interval_s)]


def payment_jobs(settings: Settings, events: TierEvents | None) -> list[Periodic]:
    """None without a payment contract; then nobody imports web3, as no web worker ever does."""
    if events is None or settings.inference_payment_address is None:
        return []
    from core.chain.payment_subscription import payment_users  # noqa: PLC0415 - 45 MB that most processes never need

    address = settings.inference_payment_address
    return TierWatch(events, partial(payment_users, settings.chain_ws_url, settings.chain_id, address)).jobs()


def _checked_settings() -> Settings:
    settings = Settings.load()
    if settings.redis_url is None:
        raise InvalidSettings(
            [
                "REDIS_URL: is not set, and only `python app.py` brings its own. Example: REDIS_URL=redis://localhost:6379/0"
            ]
        )
    return settings


if __name__ == "__main__":
    sys.exit(main())
