"""Paid answers on their way: how often they are noted, and what is charged however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, cast

import pytest
import pytest_asyncio

from core import redis_keys
from core.access.admission import Admission
from core.access.grant import Charge, Grant
from core.access.pay_desk import PayDesk
from core.access.tiers import Source as StandingSource
from core.access.tiers import Standing
from core.auth.caller import Caller
from core.billing.charges import Charges
from core.billing.ledger import Ledger
from core.billing.price_list import PriceList
from core.catalog import Tier
from core.chain.payment_contract import Credit, Terms
from core.clock import SystemClock
from core.errors import NodesFailed
from core.inference.completion import Paid, Usage
from core.inference.requests import InferenceRequest
from core.inference.service import InferenceService
from core.inference.streaming import CompletionStream
from core.inference.tally import CHECKPOINT_PIECES, CHECKPOINT_S, Tally
from core.metrics.meter import Meter
from core.nodes.node import Node
from core.nodes.router import NodeRouter, NodeStream
from core.nodes.work import NodeAnswer, Work
from core.redis_link import Argument, RedisLink
from core.store import Store
from tests.access.gates import ADA, CATALOG, LIMITS
from tests.billing.paying import Books
from tests.fakes.clock import FakeClock
from tests.inference.test_streaming import Account, Source
from tests.streams import following, lists

MODEL = CATALOG.require("small")
GRANT = Grant("req_1", ADA, Tier.PRO, MODEL, 1000, None, Charge(1000, 10**9, 1001))
REQUEST = InferenceRequest(model="small", prompt="abcd", max_tokens=8)
CREDIT, TERMS = Credit(10**9, 0, 0, is_pro=True), Terms(1000, 1)


class PaidAccount(Account):
    """
    A ledger that also remembers checkpoints, and how many of them it was told at the same time; `noting` holds them up.
    """

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most = 0
        self.noting = asyncio.Event()
        self.noting.set()

    async def checkpoint(self, grant: Grant, usage: Usage, node: Node) -> None:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.noting.wait()
            await self._hear("checkpoint", usage.completion_tokens)
        finally:
            self.under_way -= 1


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be put ahead."""

    ahead_s = 0.0

    def time(self) -> float:
        return super().time() + self.ahead_s


def stream_of(account: Account, *script: list[str] | NodesFailed) -> CompletionStream:
    """A paid stream of that script."""
    meter = Meter(REQUEST, GRANT.max_tokens, MODEL.context_length, is_paid=True)
    tally = Tally(cast("Ledger", account), GRANT)
    return CompletionStream(GRANT, cast("NodeStream", Source(*script)), tally, meter, FakeClock())


async def read(stream: CompletionStream, times: int) -> None:
    """So many lists of pieces; what was to be told of each is told."""
    for _ in range(times):
        await following(stream)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@pytest.mark.asyncio
class TestCheckpoints:
    async def test_come_with_the_first_piece_and_then_with_every_64th(self) -> None:
        account = PaidAccount()
        stream = stream_of(account, *[["a"]] * (2 * CHECKPOINT_PIECES + 2))

        await read(stream, 2 * CHECKPOINT_PIECES + 2)
        noted = [told[1] for told in account.told]
        await stream.aclose()

        assert noted == [1, 1 + CHECKPOINT_PIECES, 1 + 2 * CHECKPOINT_PIECES]

    async def test_count_pieces_and_not_events(self) -> None:
        account = PaidAccount()
        stream = stream_of(account, ["a"], ["a"] * (CHECKPOINT_PIECES - 1), ["a"], ["a"])

        await read(stream, 4)
        await stream.aclose()

        assert account.told[:2] == [("checkpoint", 1), ("checkpoint", 1 + CHECKPOINT_PIECES)]
        assert account.told[2:] == [("commit", 2 + CHECKPOINT_PIECES, "http://node")]

    async def test_are_told_one_at_a_time_and_hold_nothing_up(self) -> None:
        account = PaidAccount()
        account.noting.clear()
        stream = stream_of(account, *[["a"] * CHECKPOINT_PIECES] * 5)

        await read(stream, 3)
        assert (account.under_way, account.told) == (1, [])
        account.noting.set()
        await asyncio.sleep(0.01)
        await read(stream, 2)
        await stream.aclose()

        assert account.most == 1
        assert account.told[:2] == [("checkpoint", CHECKPOINT_PIECES), ("checkpoint", 4 * CHECKPOINT_PIECES)]

    async def test_are_over_before_the_charge(self) -> None:
        account = PaidAccount()
        account.noting.clear()
        stream = stream_of(account, ["a"])
        await read(stream, 1)

        ending = asyncio.ensure_future(stream.aclose())
        await asyncio.sleep(0.01)
        assert account.told == []
        account.noting.set()
        await ending

        assert account.told == [("checkpoint", 1), ("commit", 1, "http://node")]

    async def test_that_redis_does_not_hear_do_not_break_the_answer(self) -> None:
        account = PaidAccount()
        account.away = True
        stream = stream_of(account, *[["a"]] * 100)

        assert len([pieces async for pieces in lists(stream)]) == 100


class TestSlowStreams:
    def test_are_noted_every_two_seconds(self) -> None:
        account = PaidAccount()

        async def story() -> None:
            loop = cast("JumpingLoop", asyncio.get_running_loop())
            stream = stream_of(account, *[["a"]] * 5)
            await read(stream, 2)
            loop.ahead_s += CHECKPOINT_S
            await read(stream, 2)
            loop.ahead_s += CHECKPOINT_S
            await read(stream, 1)
            await stream.aclose()

        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            runner.run(story())

        assert account.told[:3] == [("checkpoint", 1), ("checkpoint", 3), ("checkpoint", 5)]


class CountingLink(RedisLink):
    """The line to Redis, which counts what goes over it."""

    calls = 0

    async def call(self, command: Sequence[Argument]) -> Any:
        self.calls += 1
        return await super().call(command)


class Nodes:
    """A router that answers by a script, or waits for ever."""

    def __init__(self, *script: list[str] | NodesFailed, waits: bool = False) -> None:
        self._script = script
        self._waits = waits

    async def complete(self, work: Work) -> NodeAnswer:
        if self._waits:
            await asyncio.Event().wait()
        texts = []
        for step in self._script:
            if isinstance(step, NodesFailed):
                raise step
            texts += step
        return NodeAnswer(Node("http://node"), "".join(texts), "stop", None, None, 0)

    def stream(self, work: Work) -> NodeStream:
        return cast("NodeStream", Source(*self._script, *([3600.0] if self._waits else [])))


class Payers:
    """Everybody has a deposit of 10^9 tokens at one wei."""

    async def tier_of(self, caller: Caller) -> Tier:
        return Tier.PRO

    async def standing_of(self, caller: Caller) -> Standing:
        return Standing(Tier.PRO, StandingSource.FRESH, CREDIT)

    async def terms(self) -> Terms:
        return TERMS


class Shop:
    """The way of a paid request from the gate to the charge, on a real Redis."""

    def __init__(self, redis_url: str) -> None:
        self.link = CountingLink(redis_url, 10)
        self.store = Store(self.link)
        self.charges = Charges(self.store, most_unsettled=10**9, lease_s=360)
        self.ledger = Ledger(self.store, charges=self.charges)

    def service(self, nodes: Nodes) -> InferenceService:
        """Serves what these nodes answer."""
        payers = Payers()
        desk = PayDesk(payers, cast("PriceList", payers), self.charges)
        admission = Admission(self.store, payers, CATALOG, LIMITS, SystemClock(), pay_desk=desk)
        return InferenceService(admission, cast("NodeRouter", nodes), self.ledger, SystemClock(), patience_s=1)


@pytest_asyncio.fixture
async def shop(redis_url: str) -> AsyncIterator[Shop]:
    """An empty one."""
    opened = Shop(redis_url)
    yield opened
    await opened.ledger.aclose()
    await opened.link.aclose()


@pytest.fixture
def books(redis_url: str) -> Iterator[Books]:
    """What stands in Redis."""
    opened = Books(redis_url)
    yield opened
    opened.redis.close()


def is_settled(books: Books, tokens: int) -> bool:
    """Whether the caller was charged so much, and nothing is held for him."""
    credit = books.credit()
    return (credit["cum"], credit["reserved"], books.redis.zcard(redis_keys.RESERVATIONS)) == (tokens, 0, 0)


@pytest.mark.asyncio
class TestWhole:
    async def test_costs_two_round_trips_to_redis(self, shop: Shop, books: Books) -> None:
        service = shop.service(Nodes(["abcdefgh"]))
        await service.complete(ADA, REQUEST)  # Redis learns the scripts
        before = shop.link.calls

        completion = await service.complete(ADA, REQUEST)

        assert shop.link.calls - before == 2
        assert completion.usage == Usage(1, 2, 3)
        assert completion.paid == Paid(cost=3, left=10**9 - 6)
        assert is_settled(books, 6)

    async def test_that_no_node_gave_costs_nothing(self, shop: Shop, books: Books) -> None:
        with pytest.raises(NodesFailed):
            await shop.service(Nodes(NodesFailed())).complete(ADA, REQUEST)

        assert is_settled(books, 0)

    async def test_whose_caller_left_before_it_was_there_costs_nothing(self, shop: Shop, books: Books) -> None:
        asking = asyncio.ensure_future(shop.service(Nodes(waits=True)).complete(ADA, REQUEST))
        await until(lambda: books.credit()["reserved"] == 9)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert is_settled(books, 0)


@pytest.mark.asyncio
class TestStreamed:
    async def test_is_charged_before_its_end(self, shop: Shop, books: Books) -> None:
        async with shop.service(Nodes(["a"], ["b"])).stream(ADA, REQUEST) as stream:
            assert [pieces async for pieces in lists(stream)] == [["a"], ["b"]]

            assert is_settled(books, 3)
            assert stream.completion.paid == Paid(cost=3, left=10**9 - 3)
        assert is_settled(books, 3)

    async def test_whose_client_leaves_in_its_middle_is_charged_what_left(self, shop: Shop, books: Books) -> None:
        async with shop.service(Nodes(["a"], ["b"], ["c"], waits=True)).stream(ADA, REQUEST) as stream:
            await following(stream)
            await following(stream)
            assert books.credit()["cum"] == 0

        assert is_settled(books, 3)
        assert stream.usage == Usage(1, 2, 3, cost_plm="0.000000000000000003", balance_plm="0.000000000999999997")

    async def test_that_breaks_off_is_charged_what_left(self, shop: Shop, books: Books) -> None:
        async with shop.service(Nodes(["a"], NodesFailed())).stream(ADA, REQUEST) as stream:
            await following(stream)
            with pytest.raises(NodesFailed):
                await following(stream)

        assert is_settled(books, 2)

    async def test_that_never_began_costs_nothing(self, shop: Shop, books: Books) -> None:
        with pytest.raises(NodesFailed):
            async with shop.service(Nodes(NodesFailed())).stream(ADA, REQUEST):
                pass

        assert is_settled(books, 0)

    async def test_whose_client_leaves_before_its_first_piece_costs_nothing(self, shop: Shop, books: Books) -> None:
        async def ask() -> None:
            async with shop.service(Nodes(waits=True)).stream(ADA, REQUEST):
                pass

        asking = asyncio.ensure_future(ask())
        await until(lambda: books.credit()["reserved"] == 9)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert is_settled(books, 0)

    async def test_of_a_killed_worker_has_its_first_piece_noted(self, shop: Shop, books: Books) -> None:
        async with shop.service(Nodes(["a"], waits=True)).stream(ADA, REQUEST) as stream:
            charge = stream.grant.request_id
            await until(lambda: books.charge(charge)["tokens"] == "2")

            assert books.charge(charge)["state"] == "reserved"
        assert is_settled(books, 2)


async def until(is_so: Callable[[], bool]) -> None:
    """Waits for it."""
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.01)
