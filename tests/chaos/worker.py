"""The life of a web worker's process, as far as money goes: one paid answer after the other."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from core.access.grant import Grant
from core.auth.caller import Caller
from core.billing.charges import Charges, Price, Request
from core.billing.commits import Commits
from core.billing.ledger import Ledger
from core.billing.reaper import Reaper
from core.billing.spool import Spool
from core.bus import open_bus
from core.catalog import Model, Tier
from core.errors import InsufficientCredit, StoreUnavailable, TooMuchUnsettled
from core.inference.completion import Usage
from core.nodes.node import Node
from core.steps import Step
from core.store import Store, open_store
from tests.chaos.record import Record
from tests.chaos.servers import Servers
from tests.fakes.chain import PLM

MODEL = Model("chaos", "Chaos", "", Tier.PRO, max_tokens=800, context_length=4096)
NODE = Node("http://node.example", "0x" + "ab" * 20)
PRICE = Price(PLM // 1000, 150 * PLM)
LEASE_S = 2
LONGEST_S = 0.08
PAUSE_S = 0.005
RETRY_S = 0.1
WINDOW_S = 2.0

chance = random.SystemRandom()


@dataclass(frozen=True, slots=True)
class Desk:
    """What a worker works with."""

    store: Store
    charges: Charges
    ledger: Ledger
    record: Record
    at: Step


async def serve(servers: Servers, at: Step, users: Sequence[str] = ()) -> None:
    """Answers without end, to these lower-case addresses or to everybody."""
    users = users or [user.address.lower() for user in servers.market.users]
    async with _open_desk(servers, at) as desk:
        while True:
            try:
                await _answer(desk, chance.choice(users))
            except (StoreUnavailable, InsufficientCredit, TooMuchUnsettled):
                await asyncio.sleep(RETRY_S)
            await asyncio.sleep(PAUSE_S)


async def close_books(servers: Servers, at: Step) -> None:
    """What killed workers have left is brought to its end."""
    async with _open_desk(servers, at) as desk:
        reaper = Reaper(desk.store)
        while True:
            with suppress(StoreUnavailable):
                await reaper.reap()
            await asyncio.sleep(RETRY_S)


async def _answer(desk: Desk, user: str) -> None:
    """Raises what the gate raises; once something is delivered, nothing."""
    request_id, prompt = f"req_{secrets.token_hex(8)}", chance.randint(1, 200)
    request = Request(request_id, user, None, MODEL.id, prompt + MODEL.max_tokens)
    charge = await desk.charges.reserve(request, PRICE)
    grant = Grant(request_id, Caller(user), Tier.PRO, MODEL, MODEL.max_tokens, None, charge)
    length = chance.randint(1, MODEL.max_tokens)
    for sent in range(min(64, length), length, 64):
        await _deliver(desk, grant, _usage(prompt, sent))
    await asyncio.sleep(chance.uniform(0, LONGEST_S))  # Redis shall go away in the middle of answers as well
    usage = _usage(prompt, length)
    desk.record.write("most", request_id, user, usage.total_tokens)
    with suppress(StoreUnavailable):  # it is in the spool
        await desk.ledger.commit(grant, usage, NODE, latency_ms=1)
    desk.record.write("delivered", request_id, user, usage.total_tokens)
    desk.at("delivered")


async def _deliver(desk: Desk, grant: Grant, usage: Usage) -> None:
    """A part of the answer leaves."""
    user = grant.caller.subject
    desk.record.write("most", grant.request_id, user, usage.total_tokens)
    with suppress(StoreUnavailable):
        await desk.ledger.checkpoint(grant, usage, NODE)
        desk.record.write("least", grant.request_id, user, usage.total_tokens)


@asynccontextmanager
async def _open_desk(servers: Servers, at: Step) -> AsyncIterator[Desk]:
    async with open_store(servers.redis.url) as store, open_bus(servers.redis.url) as bus:
        charges = Charges(store, most_unsettled=200_000, lease_s=LEASE_S, at=at)
        spool = Spool(servers.spool, secrets.token_hex(8))
        commits = Commits(store, spool, pause_s=RETRY_S, window_s=WINDOW_S, at=at)
        commits.follow(bus)
        ledger = Ledger(store, charges=charges, commits=commits)
        ledger.start()
        yield Desk(store, charges, ledger, servers.record, at)


def _usage(prompt: int, completion: int) -> Usage:
    return Usage(prompt, completion, prompt + completion)
