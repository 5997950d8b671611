"""
The settler: takes what Pro users owe to the chain.

`python -m workers.settlement` runs it alone; `python app.py` runs it in its background worker.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Awaitable, Callable
from functools import partial

from conf.settings import EXIT_CODE, Settings
from core.bootstrap.settlement import Settlement, open_settlement
from core.errors import GatewayError
from core.settlement.journal import ForeignLedger, JournalOpen
from core.settlement.keyless import NO_KEY, Keyless
from core.settlement.reconciling import NoJournal
from core.settlement.settler import Settler
from workers import leading
from workers.lasting import live, stop_signal, work
from workers.periodic import Job, Lasting, Periodic

EVERY_S = 3.0  # about one block

Command = Callable[[Settler], Awaitable[int]]

log = logging.getLogger(__name__)


def main(argv: list[str]) -> int:
    """Runs until a stop signal, or does one command; the result is the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m workers.settlement",
        description="Takes what Pro users owe to the chain. Its settings are environment variables.",
    )
    parser.add_argument(
        "command",
        nargs="?",
        choices=list(COMMANDS),
        help="reconcile: compare once what was settled with the chain: a line for each user who differs, and exit code"
        " 1. adopt: take over the ledger of another contract; what was used before is never debited by this one",
    )
    command = parser.parse_args(argv).command
    return live(Settings.load, run if command is None else partial(do, COMMANDS[command]))


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


async def do(command: Command, settings: Settings) -> int:
    """One command, as COMMANDS names it; its exit code, 78 when it can't be done."""
    async with open_settlement(settings) as settlement:
        if settlement is None or isinstance(settlement.settler, Keyless):
            print("INFERENCE_PAYMENT_ADDRESS is not set" if settlement is None else NO_KEY, file=sys.stderr)  # noqa: T201
            return EXIT_CODE
        return await command(settlement.settler)


async def reconcile(settler: Settler) -> int:
    """One comparison; 0 when all users agree, 1 when not, 78 when there is nothing to compare with."""
    try:
        compared = await settler.reconcile()
    except (GatewayError, NoJournal, ForeignLedger) as problem:
        print(f"Nothing can be compared now: {problem}", file=sys.stderr)  # noqa: T201 - this is a command's answer
        return EXIT_CODE
    for each in compared.differing:
        print(f"{each.user}: {each.settled} tokens settled, {each.debited} debited on the chain")  # noqa: T201
    print(f"{compared.users} users, {len(compared.differing)} differ")  # noqa: T201
    return 1 if compared.differing else 0


async def adopt(settler: Settler) -> int:
    """Takes over the ledger of another contract; 0 when it is this one's then, 78 when that can't be done now."""
    try:
        adoption = await settler.adopt()
    except (GatewayError, JournalOpen) as problem:
        print(f"The ledger can't be taken over now: {problem}", file=sys.stderr)  # noqa: T201
        return EXIT_CODE
    if adoption is None:
        print("The ledger is of this contract")  # noqa: T201
    else:
        print(f"{adoption.users} users taken over, {adoption.tokens} tokens never to be debited")  # noqa: T201
    return 0


COMMANDS: dict[str, Command] = {"reconcile": reconcile, "adopt": adopt}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
