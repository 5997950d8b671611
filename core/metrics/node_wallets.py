"""The wallets of nodes that do not report what they served themselves."""

from __future__ import annotations

import logging
from typing import Any

from core import redis_keys
from core.clock import Clock
from core.metrics.counters import Counters
from core.oracle.client import OracleClient, OracleUnavailable

WATCH_S = 180.0  # nodes that report do so every 60 s

log = logging.getLogger(__name__)


class NodeWallets:
    """
    The accounts of nodes, without those that somebody else is seen to report for: two reporters of one wallet make
    the Oracle book each one's figures anew, again and again.

    A wallet is watched for a while before its first report, and looked at before each further one. Once another's
    report was seen it is left alone for good.
    """

    def __init__(self, counters: Counters, oracle: OracleClient, clock: Clock) -> None:
        self._counters = counters
        self._oracle = oracle
        self._clock = clock
        self._since: dict[str, float] = {}  # since when each wallet is watched
        self._others: set[str] = set()

    async def to_report(self) -> list[tuple[str, str]]:
        """Account and wallet of each, which are the same here. Raises StoreUnavailable."""
        names = [name for name in await self._counters.accounts() if name not in (redis_keys.OWN, redis_keys.NOBODY)]
        return [(wallet, wallet) for wallet in names if wallet not in self._others and await self._is_ours(wallet)]

    async def _is_ours(self, wallet: str) -> bool:
        try:
            updated = last_updated(await self._oracle.get(f"/api/v1/metrics/agents/{wallet}"))
        except OracleUnavailable:
            return False
        taken, accepted = await self._counters.timestamps(wallet)
        # Between the two may lie reports of ours whose answers were lost.
        if updated and not (updated == accepted or accepted < updated <= taken):
            self._others.add(wallet)
            log.warning("the node of %s reports for itself: nothing is reported for it", wallet)
            return False
        since = self._since.setdefault(wallet, self._clock.monotonic())
        return accepted > 0 or self._clock.monotonic() >= since + WATCH_S


def last_updated(metrics: Any) -> int:
    """The timestamp of the last report that the Oracle has of a wallet in this epoch; 0 when there is none."""
    found = metrics.get("lastUpdated") if isinstance(metrics, dict) else None
    try:
        return int(found or 0)
    except (TypeError, ValueError):
        raise OracleUnavailable("its metrics can't be read") from None
