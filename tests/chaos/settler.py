"""The life of a settler's process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from core.access.tier_cache import TierCache
from core.bus import open_bus
from core.chain.chain import open_chain
from core.chain.payment_contract import PaymentContract
from core.clock import SystemClock
from core.errors import StoreUnavailable
from core.settlement.rules import Rules
from core.settlement.settler import Settler, World
from core.steps import Step
from core.store import Store, open_store
from core.wallet import Signer
from tests.chaos.servers import Servers
from tests.chaos.troubles import BLOCK_S
from tests.fakes.chain import CHAIN_ID

PAUSE_S = 0.03
PATIENCE_S = 0.5  # for a transaction that is not mined
REPLAY_S = 3.0


class Watched(Store):
    """A store whose scripts are steps as well: "ran settle_plan" and so on."""

    def __init__(self, store: Store, at: Step) -> None:
        self.__dict__.update(store.__dict__)
        self._at = at

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        reply = await super().run(script, keys, args)
        self._at(f"ran {script}")
        return reply


async def settle(servers: Servers, at: Step) -> None:
    """Turns without end, as fast as they go; other settlers may do the same."""
    rules = Rules(
        interval_s=0,
        exposure_tokens=200_000,
        confirmations=servers.plan.confirmations,
        max_fee=100 * 10**9,
        patience_s=PATIENCE_S,
        replay_s=REPLAY_S,
        block_s=BLOCK_S,
    )
    clock = SystemClock()
    async with (
        open_store(servers.redis.url, timeout_s=2) as store,
        open_bus(servers.redis.url) as bus,
        open_chain(servers.rpc.url, CHAIN_ID) as chain,
    ):
        world = World(
            store=Watched(store, at),
            chain=chain,
            chain_id=CHAIN_ID,
            contract=PaymentContract(chain, servers.chain.contract),
            signer=Signer("0x" + bytes(servers.key.key).hex()),
            tiers=TierCache(store, bus, clock),
            clock=clock,
        )
        settler = Settler(world, rules, at)
        while True:
            with suppress(StoreUnavailable):
                await settler.tick()
            await asyncio.sleep(PAUSE_S)
