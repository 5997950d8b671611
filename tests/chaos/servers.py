"""What the processes of a run share: a Redis, a chain with a contract on it, a bad endpoint before it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount
from redis import Redis

from tests.chaos.market import Market
from tests.chaos.plan import Plan
from tests.chaos.record import Record
from tests.fakes.chain import PAYMENT, TREASURY, TestChain
from tests.fakes.faulty_rpc import FaultyRpc
from tests.fakes.redis_server import RedisServer

USERS = 6


@dataclass(frozen=True, slots=True)
class Servers:
    """`key` is that of the contract's gateway."""

    plan: Plan
    folder: Path
    redis: RedisServer
    client: Redis
    chain: TestChain
    rpc: FaultyRpc
    market: Market
    key: LocalAccount
    record: Record

    @property
    def spool(self) -> Path:
        """Where workers keep what Redis did not take."""
        return self.folder / "spool"

    def journal_size(self) -> int:
        """Bytes of Redis' append-only file."""
        return self._file().stat().st_size

    def roll_back(self, size: int, away_s: float = 0) -> None:
        """Kills Redis and starts it again, some time later, with what it knew when the file was so large."""
        self.redis.stop()
        time.sleep(away_s)
        with self._file().open("r+b") as file:
            file.truncate(size)
        self.redis.start()

    def _file(self) -> Path:
        return next(self.folder.glob("redis/appendonlydir/*.incr.aof"))


@contextmanager
def open_servers(plan: Plan) -> Iterator[Servers]:
    """Starts everything; users have paid in, and blocks are made only when they are asked for."""
    with (
        tempfile.TemporaryDirectory(prefix="plm-") as name,
        TestChain() as chain,
        FaultyRpc(chain.url, plan.seed) as rpc,
    ):
        folder = Path(name)
        (folder / "redis").mkdir()
        server = RedisServer(folder / "redis", fsync="always")
        server.start()
        key = Account.create()
        chain.fund(key.address)
        chain.contract = chain.deploy(PAYMENT, key.address, TREASURY)
        market = Market(chain, key, [chain.account(100_000) for _ in range(USERS)])
        for user in market.users:
            chain.deposit(user, 150)
        chain.rpc("evm_setAutomine", False)
        client = Redis.from_url(server.url, decode_responses=True)
        try:
            yield Servers(plan, folder, server, client, chain, rpc, market, key, Record(folder / "answers"))
        finally:
            client.close()
            server.stop()
