"""What goes wrong during a run, by chance and on purpose."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from core import redis_keys
from tests.chaos.servers import Servers
from tests.chaos.worker import WINDOW_S
from tests.fakes.chain import PLM, Reverted
from tests.fakes.faulty_rpc import Rates

BLOCK_S = 0.12
LONG_AWAY = 0.2  # of the deaths of Redis
READS = Rates(drop=0.02, bad_gateway=0.01, stale=0.05)
SENDS = Rates(drop=0.10, drop_after=0.15, bad_gateway=0.05)


@dataclass
class Troubles:
    """Each happens in so many of a thousand looks; `happened` counts them."""

    servers: Servers
    chance: random.Random
    happened: Counter[str] = field(default_factory=Counter)
    _mined: float = 0.0
    _stalled_until: float = 0.0
    _poor_until: float = 0.0

    def begin(self) -> None:
        """The endpoint is a bad one from here on."""
        self.servers.rpc.misbehave({"*": READS, "eth_sendRawTransaction": SENDS})

    def end(self) -> None:
        """All is well again, and everybody has money."""
        self.servers.rpc.misbehave({})
        self.servers.market.fund_gateway(1_000_000)
        self._happen(self.deposit_all)

    def pass_time(self) -> None:
        """Blocks are made."""
        now = time.monotonic()
        if 0 < self._poor_until < now:
            self._poor_until = 0
            self.servers.market.fund_gateway(1_000_000)
        if now > max(self._mined + BLOCK_S, self._stalled_until):
            self._mined = now
            self.servers.market.mine()

    def look(self) -> None:
        """Something may happen."""
        for trouble, per_mille in self._all():
            if self.chance.random() * 1000 < per_mille:
                self._happen(trouble)

    def provoke(self, point: str) -> None:
        """Makes it likely that a process comes to this point."""
        self._happen(self.deposit_all)  # nobody serves debtors
        if point.startswith("recover_"):
            self._happen(self.wipe_journal)
        elif point.startswith("bump_"):
            self._happen(self.stall)
        elif point.startswith(("spool", "replay")) and self.servers.plan.redis_kills:
            self._happen(self.kill_redis)

    def _all(self) -> list[tuple[Callable[[], None], float]]:
        return [
            (self.stall, 3),
            (self.raise_fee, 3),
            (self.drop, 6),
            (self.reorg, 4),
            (self.withdraw, 4),
            (self.deposit, 8),
            (self.change_price, 3),
            (self.foreign, 1.5),
            (self.empty_gas, 1),
            (self.wipe_journal, 1),
            (self.kill_redis, 3 if self.servers.plan.redis_kills else 0),
        ]

    def _happen(self, trouble: Callable[[], None]) -> None:
        self.happened[trouble.__name__] += 1
        try:
            trouble()
        except Reverted:  # the chain did not take it: a nonce is in use, or the money is gone
            self.happened[f"{trouble.__name__} refused"] += 1

    def stall(self) -> None:
        """No blocks for a while."""
        self._stalled_until = time.monotonic() + self.chance.uniform(0.8, 1.6)

    def raise_fee(self) -> None:
        """The chain asks for more."""
        self.servers.market.set_base_fee(self.chance.choice((1, 3, 8, 30)))

    def drop(self) -> None:
        """The pool loses a transaction."""
        if waiting := self.servers.market.waiting():
            self.servers.market.drop(self.chance.choice(waiting))

    def reorg(self) -> None:
        """Blocks are taken back that were not deep enough to count."""
        self.servers.market.reorg(self.chance.randint(1, max(1, self.servers.plan.confirmations - 1)))

    def withdraw(self) -> None:
        """A user leaves with his money."""
        self.servers.market.withdraw(self.chance.choice(self.servers.market.users))

    def deposit(self) -> None:
        """A user pays in."""
        self.servers.market.deposit(self.chance.choice(self.servers.market.users))

    def deposit_all(self) -> None:
        """Everybody pays in."""
        for user in self.servers.market.users:
            self.servers.market.deposit(user, 200)

    def change_price(self) -> None:
        """Up to fifty times the first price."""
        self.servers.market.set_price(PLM // 1000 * self.chance.choice((1, 2, 10, 50)))

    def foreign(self) -> None:
        """Somebody else has the gateway's key."""
        self.servers.market.foreign()

    def empty_gas(self) -> None:
        """The gateway has no money for gas."""
        self.servers.market.fund_gateway(0)
        self._poor_until = time.monotonic() + 1

    def wipe_journal(self) -> None:
        """Redis loses the settler's journal and nothing else."""
        wipe_journal(self.servers)

    def kill_redis(self) -> None:
        """It comes back with what its file says."""
        is_long = self.chance.random() < LONG_AWAY
        self.servers.redis.stop()
        time.sleep(1.5 * WINDOW_S if is_long else self.chance.uniform(0.1, 1.0))
        self.servers.redis.start()
        self.happened["kill_redis for longer than workers look back"] += is_long


def wipe_journal(servers: Servers) -> None:
    """All of its keys."""
    if keys := list(servers.client.scan_iter(f"{redis_keys.PREFIX}:journal:*")):
        servers.client.delete(*keys)
