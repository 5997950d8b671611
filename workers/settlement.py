"""
The settler: takes what Pro users owe to the chain.

`python -m workers.settlement` runs it alone; `python app.py` runs it in its background worker.
"""

from __future__ import annotations

import argparse
import logging
import sys
from functools import partial

from conf.settings import EXIT_CODE, Settings
from core.bootstrap.settlement import Settlement, open_settlement
from core.errors import GatewayError
from core.settlement.keyless import NO_KEY, Keyless
from core.settlement.reconciling import NoJournal
from core.settlement.settler import Settler
from workers import leading
from workers.lasting import live, stop_signal, work
from workers.periodic import Job, Lasting, Periodic

EVERY_S = 3.0  # about one block

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Runs until a stop signal, or compares once; the result is the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.settlement",
        description="Takes what Pro users owe to the chain. Its settings are environment variables.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=["reconcile"],
        help="compare once what was settled with the chain: a line for each user who differs, and exit code 1",
    )
    return live(Settings.load, reconcile if parser.parse_args(argv).command else run)


async def run(settings: Settings) -> int:
    """Settles until the first stop signal."""
    stopped = stop_signal()
    async with open_settlement(settings) as settlement:
        log.info("settler started" if settlement else "there is no payment contract, and nothing to settle")
        await work(jobs(settlement), stopped)
    return 0


def jobs(settlement: Settlement | None) -> list[Job]:
    """None without a payment contract. Of several settlers one works at a time, which only saves gas."""
    if settlement is None:
        return []
    settling = Periodic("settling", settlement.settler.tick, EVERY_S)
    lead = partial(leading.lead, settlement.lease, [settling], leads="settles")
    receipts = [] if settlement.receipts is None else [settlement.receipts]
    return [Lasting("asking for the turn to settle", lead, leading.EVERY_S), *receipts]


async def reconcile(settings: Settings) -> int:
    """One comparison; 0 when all users agree, 1 when not, 78 when there is nothing to compare with."""
    async with open_settlement(settings) as settlement:
        if settlement is None or isinstance(settlement.settler, Keyless):
            print("INFERENCE_PAYMENT_ADDRESS is not set" if settlement is None else NO_KEY, file=sys.stderr)  # noqa: T201
            return EXIT_CODE
        return await _compared(settlement.settler)


async def _compared(settler: Settler) -> int:
    try:
        compared = await settler.reconcile()
    except (GatewayError, NoJournal) as problem:
        print(f"Nothing can be compared now: {problem}", file=sys.stderr)  # noqa: T201 - this is a command's answer
        return EXIT_CODE
    for each in compared.differing:
        print(f"{each.user}: {each.settled} tokens settled, {each.debited} debited on the chain")  # noqa: T201
    print(f"{compared.users} users, {len(compared.differing)} differ")  # noqa: T201
    return 1 if compared.differing else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
