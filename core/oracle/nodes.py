"""The nodes that the Oracle names: polled by the lead of the fleet, kept in Redis, and good for as long as it takes."""

from __future__ import annotations

import asyncio
import logging
from typing import TypeVar

import msgspec

from core import redis_keys
from core.errors import StoreUnavailable
from core.nodes.sources import Listing, merged
from core.oracle.client import OracleClient, OracleUnavailable
from core.oracle.kept import Kept, settled
from core.oracle.listings import CapacityRow, NodeRow, Sieve, StageRow, Told, listings
from core.store import Store

NODES, TOPOLOGY, CAPACITY = "/api/nodes", "/api/v1/pipeline/topology", "/api/v1/metrics/capacity"
TTL_S = 30 * 24 * 3600

log = logging.getLogger(__name__)
Row = TypeVar("Row", bound=msgspec.Struct)


class OracleNodes:
    """
    A NodeSource. `refresh` asks the Oracle; `listed` repeats what came of it, whoever asked, also after a restart.

    An Oracle that is away, or answers nonsense, changes nothing.
    """

    def __init__(self, client: OracleClient, store: Store, sieve: Sieve) -> None:
        self._client = client
        self._store = store
        self._sieve = sieve
        self._kept: list[Kept] | None = None  # None until Redis has told it
        self._polling = asyncio.Lock()
        self._said = ""

    async def listed(self) -> list[Listing]:
        """The last good set. Raises StoreUnavailable while it was never read: no set is no empty set."""
        return merged(kept.listing for kept in await self._recall())

    async def refresh(self) -> None:
        """Polls once. Raises StoreUnavailable: what came of it could not be kept."""
        async with self._polling:
            before = await self._recall()
            told, problems = await self._poll()
            self._kept = settled(before, listings(told, self._sieve), complete=not problems)
            self._note(problems)
            await self._store.set(redis_keys.ORACLE_NODES, msgspec.json.encode(self._kept).decode(), TTL_S)

    async def _recall(self) -> list[Kept]:
        try:
            raw = await self._store.get(redis_keys.ORACLE_NODES)
            if raw is not None:
                self._kept = msgspec.json.decode(raw, type=list[Kept])
        except StoreUnavailable:
            if self._kept is None:
                raise
        except msgspec.DecodeError:
            log.warning("the kept list of the Oracle's nodes can't be read")
        self._kept = self._kept or []
        return self._kept

    # -- one poll

    async def _poll(self) -> tuple[Told, list[str]]:
        """What the Oracle says, and why it does not say more. All is asked at once."""
        models, problems = [model.id for model in self._sieve.catalog], set[str]()
        self._sieve.faults.clear()
        nodes, capacities, stages = await asyncio.gather(
            self._rows(NodeRow, problems, NODES),
            self._rows(CapacityRow, problems, CAPACITY),
            asyncio.gather(*(self._rows(StageRow, problems, TOPOLOGY, model=model) for model in models)),
        )
        staged = [(model, row) for model, rows in zip(models, stages, strict=True) for row in rows]
        return Told(nodes, staged, capacities), sorted(problems)

    async def _rows(self, form: type[Row], problems: set[str], path: str, **query: str) -> list[Row]:
        try:
            answer = await self._client.get(path, **query)
        except OracleUnavailable as problem:
            problems.add(str(problem))
            return []
        rows = answer.get("nodes") if isinstance(answer, dict) else answer
        if not isinstance(rows, list):
            problems.add("its answer has no list")
            return []
        return self._sieve.rows(rows, form)

    def _note(self, problems: list[str]) -> None:
        """Logs what is wrong when it begins, changes and ends: an Oracle that is away for hours is one event."""
        wrong = [f"the Oracle can't be asked: {problem}" for problem in problems]
        wrong += [f"{count} of its nodes left out: {fault}" for fault, count in sorted(self._sieve.faults.items())]
        said, self._said = self._said, "; ".join(wrong)
        if self._said and self._said != said:
            log.warning("%s; the last good nodes stay in use", self._said)
        elif said and not self._said:
            log.info("the Oracle is well again")
