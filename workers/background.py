"""
The background worker: what the clock triggers, in one process besides the web workers.

`python -m workers.background` runs it alone; `python app.py` runs it as one of its processes, and the settler in it.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping
from functools import partial

from conf.settings import Settings
from core.access.tier_events import TierEvents
from core.bootstrap.background import BackgroundServices, open_background_services
from core.bootstrap.settlement import open_settlement
from core.clock import SystemClock
from core.metrics.reporter import MetricsReporter
from core.oracle.nodes import OracleNodes
from workers import heartbeat, leading, probing, reaping, reporting, settlement
from workers.discovery import Discovery
from workers.lasting import live, stop_signal, work
from workers.periodic import Job, Lasting, Periodic
from workers.tier_watch import TierWatch

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """The background worker as a process of its own; the result is its exit code."""
    argparse.ArgumentParser(
        prog="python -m workers.background",
        description="Does what the clock triggers, for all web workers. Its settings are environment variables.",
    ).parse_args(argv)
    return live(Settings.load, run)


def main_with_settler(keys: Mapping[str, str]) -> int:
    """The background worker of `python app.py`; `keys` are the wallets' keys, by the names of their variables."""
    return live(partial(Settings.inherited, keys), run_with_settler)


async def run(settings: Settings) -> int:
    """Does the jobs until the first stop signal."""
    stopped = stop_signal()
    async with open_background_services(settings) as services:
        log.info("background worker started")
        await work(jobs(settings, services), stopped)
    return 0


async def run_with_settler(settings: Settings) -> int:
    """The same, and the settler's job."""
    stopped = stop_signal()
    async with open_background_services(settings) as services, open_settlement(settings) as money:
        log.info("background worker started")
        await work([*jobs(settings, services), *settlement.jobs(money)], stopped)
    return 0


def jobs(settings: Settings, services: BackgroundServices) -> list[Periodic]:
    """What every background worker does, and how often."""
    beat = partial(heartbeat.beat, services.store, SystemClock())
    lead = partial(leading.lead, services.lease, leaders_jobs(settings, services))
    return [
        Periodic("the heartbeat", beat, heartbeat.EVERY_S),
        Periodic("reaping", partial(reaping.reap, services.reaper), reaping.EVERY_S),
        Lasting("asking for the lead", lead, leading.EVERY_S),
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
