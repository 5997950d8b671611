"""The agents' reports of the last minutes, shared by the whole fleet."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from core import redis_keys
from core.bus import Bus
from core.catalog import Catalog
from core.clock import Clock
from core.ending import end
from core.errors import StoreUnavailable
from core.metrics.report_body import AgentReport
from core.store import Store

LIFE_S = 300
MOST_AGENTS = 10_000
PURPOSE = "reports"


@dataclass(slots=True)
class _Serving:
    """The agents that report to serve one model."""

    by_address: Counter[str] = field(default_factory=Counter)
    well: int = 0


class AgentReports:
    """
    Keeps reports in Redis, and a view of them in this process that follows each one within a moment.

    The view answers how many agents serve a model without asking Redis.
    """

    def __init__(self, store: Store, bus: Bus, catalog: Catalog, clock: Clock, *, most: int = MOST_AGENTS) -> None:
        self._store = store
        self._bus = bus
        self._catalog = catalog
        self._clock = clock
        self._most = most
        self._kept: dict[str, tuple[int, AgentReport]] = {}  # agent → when in unix ms, and what; the oldest first
        self._serving: defaultdict[str, _Serving] = defaultdict(_Serving)  # by the catalogue's id
        self._loading: asyncio.Task[None] | None = None

    async def add(self, report: AgentReport) -> None:
        """Takes a report in place of the agent's last one. Raises StoreUnavailable."""
        now = self._now_ms()
        value = f"{now}|{msgspec.json.encode(report).decode()}"
        keys = [redis_keys.REPORTS, redis_keys.REPORTS_AT]
        await self._store.run("agent_report", keys, (report.agent_id, value, now, LIFE_S * 1000, self._most))
        self._keep(now, report)
        await self._bus.publish(redis_keys.to_all(PURPOSE), value.encode())

    async def all(self) -> list[AgentReport]:
        """Those of the whole fleet that are not stale, in the order in which they came. Raises StoreUnavailable."""
        since = self._now_ms() - LIFE_S * 1000
        return [report for at, report in await self._read() if at > since]

    def count(self, model_id: str, besides: Collection[str]) -> int:
        """How many agents report to serve a model, without those at the lower-case addresses."""
        self._forget_stale()
        by_address = self._serving[model_id].by_address
        return by_address.total() - sum(by_address[address] for address in set(besides))

    def any_well(self, model_id: str) -> bool:
        """Whether one of them reports that most of its requests succeed."""
        self._forget_stale()
        return self._serving[model_id].well > 0

    # -- the view of this process

    async def start(self) -> None:
        """Follows the reports of all processes; what came before is read once, and after each break of the bus."""
        self._bus.when_back(self._load_soon)
        await self._bus.subscribe(redis_keys.to_all(PURPOSE), self._hear)
        await self._load()

    async def stop(self) -> None:
        """Ends what still loads."""
        if self._loading is not None:
            await end([self._loading])

    def _load_soon(self) -> None:
        self._loading = asyncio.create_task(self._load())

    async def _load(self) -> None:
        with suppress(StoreUnavailable):  # the bus tells when Redis is back
            for at, report in await self._read():
                self._keep(at, report)

    async def _read(self) -> list[tuple[int, AgentReport]]:
        kept = map(_decoded, (await self._store.hash(redis_keys.REPORTS)).values())
        return sorted(kept, key=lambda one: (one[0], one[1].agent_id))

    def _hear(self, message: bytes) -> None:
        self._keep(*_decoded(message.decode()))

    def _keep(self, at: int, report: AgentReport) -> None:
        last = self._kept.get(report.agent_id)
        if last is not None and last[0] > at:
            return
        self._forget(report.agent_id)
        self._kept[report.agent_id] = (at, report)
        self._count(report, 1)
        if len(self._kept) > self._most:
            self._forget(next(iter(self._kept)))

    def _forget_stale(self) -> None:
        since = self._now_ms() - LIFE_S * 1000
        while self._kept:
            agent, (at, _) = next(iter(self._kept.items()))
            if at > since:
                return
            self._forget(agent)

    def _forget(self, agent: str) -> None:
        kept = self._kept.pop(agent, None)
        if kept is not None:
            self._count(kept[1], -1)

    def _count(self, report: AgentReport, by: int) -> None:
        served = {model.id for name in report.models if (model := self._catalog.named(name)) is not None}
        for model_id in served:
            serving = self._serving[model_id]
            serving.by_address[report.address.lower()] += by
            if not serving.by_address[report.address.lower()]:
                del serving.by_address[report.address.lower()]
            serving.well += by * report.is_well

    def _now_ms(self) -> int:
        return int(self._clock.now() * 1000)


def _decoded(value: str) -> tuple[int, AgentReport]:
    at, _, report = value.partition("|")
    return int(at), msgspec.json.decode(report, type=AgentReport)
