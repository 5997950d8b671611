"""A settler over a real chain and a real Redis, with users who owe, and every figure that counts."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import redis
from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_account.typed_transactions.typed_transaction import TypedTransaction
from hexbytes import HexBytes

from core import redis_keys
from core.access.tier_cache import TierCache
from core.bus import Bus, open_bus
from core.chain.chain import Chain, open_chain
from core.chain.payment_contract import PaymentContract, call_data
from core.settlement.journal import Journal, Owner
from core.settlement.rules import Rules
from core.settlement.settler import Settler, World
from core.steps import unwatched
from core.store import Store, open_store
from core.wallet import Signer
from tests.fakes.chain import CHAIN_ID, PAYMENT, TREASURY, Reverted, TestChain
from tests.fakes.clock import FakeClock

GWEI = 10**9
RULES = Rules(interval_s=0, exposure_tokens=200_000, confirmations=3, max_fee=100 * GWEI, block_s=0)


class Killed(BaseException):
    """The process ends here."""


def killer(name: str, times: int = 1) -> Callable[[str], None]:
    """Ends the process at the n-th step of this name."""
    left = times

    def at(step: str) -> None:
        nonlocal left
        left -= step == name
        if left == 0:
            left = -1
            raise Killed

    return at


class Lagging:
    """An endpoint of several machines, one of which is behind: `rules` says what it answers, None for what is true."""

    def __init__(self, chain: Chain) -> None:
        self.rules: dict[str, Callable[..., Any]] = {}  # method → its answer to the parameters
        self._true = chain.request
        chain.request = self._request  # type: ignore[method-assign]

    async def _request(self, method: str, *params: Any) -> Any:
        said = self.rules[method](*params) if method in self.rules else None
        return await self._true(method, *params) if said is None else said


def at_first(times: int, said: Any) -> Callable[..., Any]:
    """The first so many answers are this one, all others are true."""
    left = times

    def answer(*_: Any) -> Any:
        nonlocal left
        left -= 1
        return said if left >= 0 else None

    return answer


@dataclass
class Bench:
    """One contract of its own, whose gateway `key` is; `url` is the endpoint that settlers ask."""

    chain: TestChain
    contract: str
    key: LocalAccount
    opened: Chain
    store: Store
    bus: Bus
    redis: redis.Redis
    clock: FakeClock = field(default_factory=FakeClock)
    _mines: bool = True

    def settler(self, rules: Rules = RULES, at: Callable[[str], None] = unwatched, key: str | None = None) -> Settler:
        """A process that has just started."""
        world = World(
            store=self.store,
            chain=self.opened,
            chain_id=CHAIN_ID,
            contract=PaymentContract(self.opened, self.contract),
            signer=Signer(key or "0x" + bytes(self.key.key).hex()),
            tiers=TierCache(self.store, self.bus, self.clock),
            clock=self.clock,
        )
        return Settler(world, rules, at)

    def journal(self) -> Journal:
        """What a settler writes down."""
        return Journal(self.store, Owner.of(CHAIN_ID, self.contract, self.key.address.lower()))

    async def recovered(self, settler: Settler) -> Settler:
        """The same, once it has a journal."""
        for _ in range(10):
            await settler.tick()
            if self.status()["state"] == "ok":
                return settler
            self.clock.advance(5)
            self.mine(3)
        raise AssertionError(self.status())

    async def settle(self, settler: Settler, turns: int = 8) -> None:
        """Turns with blocks between them, until nothing is open or outstanding."""
        for _ in range(turns):
            await settler.tick()
            if self.status()["state"] == "ok" and not self.open() and not self.outstanding():
                return
            self.clock.advance(5)
            self.mine(3)

    async def both(self, one: Settler, other: Settler) -> None:
        """A turn of two settlers, their steps in any order."""
        await asyncio.gather(one.tick(), other.tick())

    # -- users

    def user(self, plm: float = 150) -> LocalAccount:
        """A user with a deposit."""
        account = self.chain.account(10_000)
        if plm:
            self.pays_in(account, plm)
        return account

    def pays_in(self, user: LocalAccount, plm: float) -> None:
        """Deposits."""
        self.chain.send(user, self.contract, call_data("deposit"), int(plm * 10**18))

    def takes_out(self, user: LocalAccount, plm: float) -> None:
        """Withdraws."""
        self.chain.send(user, self.contract, call_data("withdraw", int(plm * 10**18)))

    def uses(self, user: LocalAccount, tokens: int) -> None:
        """Commits, as the ledger does."""
        name = user.address.lower()
        cum = self.redis.hincrby(redis_keys.credit(name), "cum", tokens)
        self.redis.zadd(redis_keys.OUTSTANDING, {name: 1_700_000_000_000}, nx=True)
        self.redis.zadd(redis_keys.charges(name), {f"req_{cum}": cum})

    # -- figures

    def credit(self, user: LocalAccount) -> dict[str, int]:
        """The user's tokens by the ledger."""
        fields: Any = self.redis.hgetall(redis_keys.credit(user.address.lower()))
        return {name: int(value) for name, value in fields.items()}

    def debits(self, user: LocalAccount) -> list[int]:
        """The tokens of each debit of the user by the chain."""
        self._rest()
        topic = "0x499f00e2b2ecaae27836a8b7b6a8ee8039d6aeacf3ace932ee774017643d7e07"
        indexed = "0x" + "0" * 24 + user.address[2:].lower()
        wanted = {"address": self.contract, "topics": [topic, indexed], "fromBlock": "0x0"}
        return [int(log["data"][2:66], 16) for log in self.chain.rpc("eth_getLogs", wanted)]

    def settlements(self, user: LocalAccount) -> list[dict[str, Any]]:
        """What the user is told of."""
        entries: Any = self.redis.zrange(redis_keys.settlements(user.address.lower()), 0, -1)
        return [json.loads(entry) for entry in entries]

    def status(self) -> dict[str, Any]:
        """What /ready shows."""
        text: Any = self.redis.get(redis_keys.SETTLER)
        said: dict[str, Any] = json.loads(text)
        return said

    def open(self) -> list[int]:
        """Open nonces."""
        nonces: Any = self.redis.zrange(redis_keys.JOURNAL_OPEN, 0, -1)
        return [int(nonce) for nonce in nonces]

    def attempts(self, nonce: int) -> list[dict[str, Any]]:
        """What was signed for a nonce."""
        texts: Any = self.redis.lrange(redis_keys.journal_attempts(nonce), 0, -1)
        return [json.loads(text) for text in texts]

    def outstanding(self) -> list[str]:
        """Who owes."""
        users: Any = self.redis.zrange(redis_keys.OUTSTANDING, 0, -1)
        return list(users)

    def next_nonce(self) -> int:
        """Of the gateway's account, by the chain."""
        self._rest()
        return int(self.chain.rpc("eth_getTransactionCount", self.key.address, "latest"), 16)

    def head(self) -> int:
        """The chain's newest block."""
        self._rest()
        return int(self.chain.rpc("eth_blockNumber"), 16)

    def redis_ms(self) -> int:
        """Redis' own time."""
        seconds, micros = self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    # -- the chain

    def mine(self, blocks: int = 1) -> None:
        """Blocks, with whatever waits in the first one."""
        self._rest()
        self.chain.mine(blocks)

    def automine(self, *, on: bool) -> None:
        """Whether each transaction makes a block at once."""
        self._rest()
        self._mines = on
        self.chain.rpc("evm_setAutomine", on)

    def _rest(self) -> None:
        """A block of its own is made for each transaction, but a moment after it was sent."""
        deadline = time.monotonic() + 10
        while self._mines and self.chain.rpc("txpool_status")["pending"] != "0x0":
            assert time.monotonic() < deadline, "transactions stay in the pool"
            time.sleep(0.002)

    def calldata(self, raw: str) -> str:
        """What a signed transaction does."""
        decoded = TypedTransaction.from_bytes(HexBytes(raw)).as_dict()
        return repr((decoded["to"], bytes(decoded["data"]), decoded["nonce"], decoded["gas"]))

    def send_raw(self, raw: str) -> None:
        """Somebody sends a signed transaction."""
        with suppress(Reverted):
            self.chain.rpc("eth_sendRawTransaction", raw)

    def debited_by_hand(self, user: LocalAccount, tokens: int) -> None:
        """A debit by the same key that no settler made."""
        self.chain.send(self.key, self.contract, call_data("useCredits", user.address.lower(), tokens))

    def transfer_by_hand(self) -> None:
        """Something else that the key does."""
        self.chain.send(self.key, TREASURY, "0x")

    def drop(self, transaction: str) -> None:
        """The pool forgets a transaction."""
        self.chain.rpc("anvil_dropTransaction", transaction)

    def snapshot(self) -> dict[str, bytes]:
        """The journal and the credits as they are."""
        keys: list[str] = [key for what in ("journal", "credit") for key in self._keys(what)]
        return {key: self.redis.dump(key) for key in keys}  # type: ignore[misc]

    def roll_back(self, snapshot: dict[str, bytes]) -> None:
        """Redis was restarted, and has them as they were."""
        self.redis.delete(*self._keys("journal"), *self._keys("credit"))
        for key, value in snapshot.items():
            self.redis.restore(key, 0, value)
        self.restart_redis()

    def _keys(self, what: str) -> list[str]:
        keys: Any = self.redis.keys(f"{redis_keys.PREFIX}:{what}:*")
        return list(keys)

    def restart_redis(self) -> None:
        """As far as the journal can tell."""
        self.redis.set(redis_keys.JOURNAL_RUN, secrets.token_hex(20))

    def lose_journal(self) -> None:
        """Redis forgets it, and nothing else."""
        self.redis.delete(*self.redis.keys(f"{redis_keys.PREFIX}:journal:*"))


@asynccontextmanager
async def open_bench(chain: TestChain, redis_url: str, url: str | None = None) -> AsyncIterator[Bench]:
    """The chain mines each transaction at once, unless the test says otherwise."""
    key = Account.create()
    chain.fund(key.address)
    contract = chain.deploy(PAYMENT, key.address, TREASURY)
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    async with (
        open_store(redis_url, timeout_s=10) as store,
        open_bus(redis_url) as bus,
        open_chain(url or chain.url, CHAIN_ID) as opened,
    ):
        bench = Bench(chain, contract, key, opened, store, bus, client)
        try:
            yield bench
        finally:
            bench.automine(on=True)
            client.close()
