"""A stream on its way: what comes out, when it is counted, and how it ends whoever ends it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import cast

import pytest

from core.access.grant import Grant
from core.auth.caller import Caller
from core.billing.ledger import KeptAnswer, Ledger
from core.catalog import Model, Tier
from core.errors import GatewayError, NodesFailed, StoreUnavailable
from core.inference.completion import Paid, Usage
from core.inference.requests import InferenceRequest
from core.inference.streaming import CompletionStream
from core.inference.tally import Tally
from core.metrics.meter import Meter
from core.nodes.node import Node
from core.nodes.router import NodeStream
from core.nodes.work import NodeAnswer, Offer
from tests.fakes.clock import FakeClock
from tests.streams import following, lists

MODEL = Model(id="m", name="", description="", tier=Tier.FREE, max_tokens=10, context_length=100)
GRANT = Grant("req_1", Caller("0x1"), Tier.FREE, MODEL, 10, None)
REQUEST = InferenceRequest(model="m", prompt="abcd")
NODE = Node("http://node")


class Account:
    """A ledger that remembers what it was told; `gate` holds it up, `away` makes it fail."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.away = False
        self.paid: Paid | None = None

    async def commit(
        self, grant: Grant, usage: Usage, node: Node, latency_ms: int, answer: KeptAnswer | None = None
    ) -> Paid | None:
        await self._hear("commit", usage.completion_tokens, node.url)
        return self.paid

    async def delivered(self, grant: Grant) -> None:
        await self._hear("delivered")

    async def hand_back(self, grant: Grant) -> None:
        await self._hear("hand back")

    async def _hear(self, *what: object) -> None:
        await self.gate.wait()
        if self.away:
            raise StoreUnavailable
        self.told.append(what)


class Source:
    """A node's stream by a script: pieces, errors to raise, seconds to sleep."""

    def __init__(self, *script: list[str] | GatewayError | float) -> None:
        self.script = list(script)
        self.closed = 0
        self.answer = NodeAnswer(NODE, "", "stop", None, None, 0)

    async def flow(self, offer: Offer) -> list[str]:
        while self.script:
            step = self.script.pop(0)
            if isinstance(step, GatewayError):
                raise step
            if isinstance(step, list):
                if not offer(step):
                    return step
            else:
                await asyncio.sleep(step)
        return []

    async def aclose(self) -> None:
        self.closed += 1


def stream_of(source: Source, account: Account) -> CompletionStream:
    """A stream over both."""
    tally = Tally(cast("Ledger", account), GRANT)
    return CompletionStream(GRANT, cast("NodeStream", source), tally, Meter(REQUEST, 10, 100), FakeClock())


@pytest.fixture
def account() -> Account:
    """An account with nothing in it."""
    return Account()


@pytest.mark.asyncio
class TestAWholeStream:
    async def test_gives_all_pieces_and_is_counted_before_it_ends(self, account: Account) -> None:
        stream = stream_of(Source(["a", "b"], ["c"]), account)
        await stream.wait_for_text(1)

        assert [pieces async for pieces in lists(stream)] == [["a", "b"], ["c"]]
        assert account.told == [("delivered",), ("commit", 3, NODE.url)]
        assert stream.completion.usage == Usage(1, 3, 4)
        assert stream.completion.finish_reason == "stop"

    async def test_is_counted_once_however_often_it_is_closed(self, account: Account) -> None:
        stream = stream_of(Source(["a"]), account)
        assert [pieces async for pieces in lists(stream)] == [["a"]]
        await stream.aclose()
        await stream.aclose()

        assert account.told == [("delivered",), ("commit", 1, NODE.url)]

    async def test_may_be_empty(self, account: Account) -> None:
        stream = stream_of(Source(), account)
        await stream.wait_for_text(1)

        assert [pieces async for pieces in lists(stream)] == []
        assert stream.completion.usage.completion_tokens == 0
        assert account.told == [("commit", 0, NODE.url)]

    async def test_that_is_paid_tells_its_price_at_its_end(self, account: Account) -> None:
        account.paid = Paid(cost=2 * 10**12, left=0)
        stream = stream_of(Source(["a"]), account)
        assert [pieces async for pieces in lists(stream)] == [["a"]]

        assert stream.completion.usage == Usage(1, 1, 2)
        assert stream.completion.told_usage == stream.usage == Usage(1, 1, 2, cost_plm="0.000002", balance_plm="0")

    async def test_has_no_end_before_its_end(self, account: Account) -> None:
        with pytest.raises(RuntimeError):
            _ = stream_of(Source(["a"]), account).completion


@pytest.mark.asyncio
class TestAStreamThatFails:
    async def test_before_its_first_text_is_handed_back_and_says_why(self, account: Account) -> None:
        stream = stream_of(Source(NodesFailed()), account)
        with pytest.raises(NodesFailed):
            await stream.wait_for_text(1)
        await stream.aclose()

        assert account.told == [("hand back",)]

    async def test_after_the_wait_says_so_to_its_reader(self, account: Account) -> None:
        stream = stream_of(Source(0.05, NodesFailed()), account)
        await stream.wait_for_text(0.001)
        with pytest.raises(NodesFailed):
            await following(stream)

        assert account.told == [("hand back",)]

    async def test_in_its_middle_is_counted_as_far_as_it_came(self, account: Account) -> None:
        stream = stream_of(Source(["a"], ["b"], NodesFailed()), account)
        heard = []
        with pytest.raises(NodesFailed):  # noqa: PT012 - what came before matters
            async for pieces in lists(stream):
                heard += pieces
        await stream.aclose()

        assert heard == ["a", "b"]
        assert account.told == [("delivered",), ("commit", 2, NODE.url)]

    async def test_for_a_store_that_is_away_still_ends_well(self, account: Account) -> None:
        account.away = True
        stream = stream_of(Source(["a"]), account)

        assert [pieces async for pieces in lists(stream)] == [["a"]]
        assert stream.completion.usage.completion_tokens == 1


@pytest.mark.asyncio
class TestAReaderWhoLeaves:
    async def test_before_the_first_text_has_used_his_request(self, account: Account) -> None:
        source = Source(60)
        stream = stream_of(source, account)
        await stream.wait_for_text(0.001)
        await stream.aclose()

        assert source.closed == 1
        assert account.told == [("delivered",)]

    async def test_in_the_middle_is_counted_as_far_as_it_came(self, account: Account) -> None:
        source = Source(["a", "b"], 60, ["c"])
        stream = stream_of(source, account)
        assert await following(stream) == ["a", "b"]
        await stream.aclose()

        assert source.closed == 1
        assert account.told == [("delivered",), ("commit", 2, NODE.url)]

    async def test_in_the_middle_is_told_what_it_cost(self, account: Account) -> None:
        account.paid = Paid(cost=3 * 10**12, left=10**18)
        stream = stream_of(Source(["a", "b"], 60, ["c"]), account)
        assert await following(stream) == ["a", "b"]
        before = stream.usage
        await stream.aclose()

        assert before == Usage(1, 2, 3)
        assert stream.usage == Usage(1, 2, 3, cost_plm="0.000003", balance_plm="1")

    async def test_while_the_end_is_counted_changes_nothing(self, account: Account) -> None:
        stream = stream_of(Source(["a"]), account)
        assert await following(stream) == ["a"]
        account.gate.clear()
        reader = asyncio.ensure_future(following(stream))
        await asyncio.sleep(0.01)
        reader.cancel()
        with suppress(asyncio.CancelledError):
            await reader
        account.gate.set()
        await stream.aclose()
        await asyncio.sleep(0.01)

        assert account.told == [("delivered",), ("commit", 1, NODE.url)]
