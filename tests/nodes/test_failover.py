"""The failover: one test for each exit of the table, and each fault of each kind of node."""

from __future__ import annotations

import asyncio

import pytest

from bench.ports import free_port
from core.errors import NodeRefused, NodesFailed, NoNodes, ShuttingDown
from core.nodes.attempt import Timeouts
from core.nodes.node import Node, NodeKind
from core.nodes.router import NodeStream
from core.nodes.work import NodeAnswer
from tests.fakes.node_server import Fault, NodeServer
from tests.nodes.network import MODEL, Network, known, work
from tests.streams import following, lists

KINDS = ["petals", "agent", "openai"]
GOOD = "All is well."
# What a stream from a node that can stream meets before its first piece.
BEFORE = [
    Fault.REFUSE,
    Fault.ERROR,
    Fault.LOADING,
    Fault.UNAUTHORISED,
    Fault.REDIRECT,
    Fault.STALL_FIRST,
    Fault.NOT_HTTP,
    Fault.GIANT_HEAD,
    Fault.EMPTY,
    Fault.COMPRESSED,
]
WITHIN = [
    Fault.STALL_BETWEEN,
    Fault.CUT_LINE,
    Fault.CUT_UTF8,
    Fault.NO_END,
    Fault.GARBAGE,
    Fault.NOT_UTF8,
    Fault.GIANT_LINE,
    Fault.ENDLESS,
    Fault.ERROR_EVENT,
]
WITH_TEXT = (Fault.NO_END, Fault.ENDLESS)  # some text has always come before it shows
# A node that answers in one piece may take all the time there is: stalling has its own tests.
WHOLE = [fault for fault in BEFORE + WITHIN if fault not in (Fault.STALL_FIRST, Fault.STALL_BETWEEN)]


async def pair(network: Network, kind: str, fault: str, **script: object) -> tuple[NodeServer, NodeServer]:
    """A node with a fault, and a good one; the bad one is first in turn."""
    bad = await network.node(kind=kind, fault=fault, **script)
    return bad, await network.node(kind=kind, answers=[GOOD])


def closed_url() -> str:
    """An address that surely refuses."""
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.asyncio
class TestFaultBeforeTheAnswer:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("fault", WHOLE)
    async def test_a_whole_answer_comes_from_another_node(self, network: Network, kind: str, fault: str) -> None:
        bad, good = await pair(network, kind, fault)
        router = await network.router(bad, good)

        answer = await router.complete(work())

        assert (answer.text, answer.node.url) == (GOOD, good.url)

    @pytest.mark.parametrize("kind", ["agent", "openai"])
    @pytest.mark.parametrize("fault", [*BEFORE, *(fault for fault in WITHIN if fault not in WITH_TEXT)])
    async def test_a_stream_comes_from_another_node(self, network: Network, kind: str, fault: str) -> None:
        bad, good = await pair(network, kind, fault, after=0)
        router = await network.router(bad, good)

        stream = router.stream(work())
        pieces = [piece async for some in lists(stream) for piece in some]

        assert ("".join(pieces), stream.answer.node.url) == (GOOD, good.url)
        assert stream.answer.pieces == 3

    @pytest.mark.parametrize("fault", WHOLE)
    async def test_a_petals_stream_comes_from_another_node(self, network: Network, fault: str) -> None:
        bad, good = await pair(network, "petals", fault)
        router = await network.router(bad, good)

        assert [some async for some in lists(router.stream(work()))] == [[GOOD]]

    async def test_the_retry_of_one_request_does_not_cost_the_good_node_its_turn(self, network: Network) -> None:
        bad, good = await pair(network, "petals", Fault.ERROR)
        router = await network.router(bad, good)

        for _ in range(2):
            await router.complete(work())

        assert (len(bad.requests), len(good.requests)) == (1, 2)

    async def test_a_node_that_refuses_connections_is_passed_over(self, network: Network) -> None:
        good = await network.node(answers=[GOOD])
        router = await network.router(good)
        await network.share(Node(closed_url(), kind=NodeKind.PETALS, models={MODEL: MODEL}, online=True), known(good))

        assert (await router.complete(work())).text == GOOD

    @pytest.mark.parametrize("kind", ["agent", "openai"])
    async def test_json_from_a_node_that_should_stream_is_one_piece(self, network: Network, kind: str) -> None:
        router = await network.router(await network.node(kind=kind, answers=[GOOD], fault=Fault.JSON_ANYWAY))

        assert [some async for some in lists(router.stream(work()))] == [[GOOD]]


@pytest.mark.asyncio
class TestFaultWithinTheAnswer:
    @pytest.mark.parametrize("kind", ["agent", "openai"])
    @pytest.mark.parametrize("fault", WITHIN)
    async def test_what_has_left_is_never_sent_twice(self, network: Network, kind: str, fault: str) -> None:
        bad, good = await pair(network, kind, fault, answers=["Some words."], after=1, delay_s=0.02)
        router = await network.router(bad, good)

        stream, pieces = router.stream(work(max_tokens=4)), list[str]()
        with pytest.raises(NodesFailed, match="cut off by its node"):
            await _exhaust(stream, pieces)

        assert pieces[0] == "Some"
        assert stream.answer.node.url == bad.url
        assert good.generated == []
        assert await following(stream) == []

    @pytest.mark.parametrize("kind", ["agent", "openai"])
    async def test_a_fault_that_comes_along_with_the_first_token_is_not_too_late(
        self, network: Network, kind: str
    ) -> None:
        bad, good = await pair(network, kind, Fault.ERROR_EVENT, answers=["Some words."], after=1)
        router = await network.router(bad, good)
        pieces: list[str] = []
        await _exhaust(router.stream(work()), pieces)

        assert "".join(pieces) == GOOD

    async def test_a_node_that_cuts_its_streams_is_left_out(self, network: Network) -> None:
        bad, good = await pair(network, "agent", Fault.CUT_LINE, answers=["Some words."], delay_s=0.02)
        router = await network.router(bad)
        for _ in range(2):
            await following(stream := router.stream(work()))
            with pytest.raises(NodesFailed):
                await _exhaust(stream, [])
        await network.share(known(bad), known(good))

        assert [node.url for node in network.registry.available(MODEL)] == [good.url]

    async def test_the_figures_of_a_broken_stream_are_those_of_what_came(self, network: Network) -> None:
        bad = await network.node(kind="agent", fault=Fault.CUT_LINE, answers=["a b c d"], after=2, delay_s=0.02)
        stream = (await network.router(bad)).stream(work())
        with pytest.raises(NodesFailed):
            await _exhaust(stream, [])

        assert stream.answer == NodeAnswer(known(bad), "", None, None, None, 2)


@pytest.mark.asyncio
class TestRefusal:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_a_refused_request_is_the_callers_fault(self, network: Network, kind: str, streamed: bool) -> None:
        node, other = await pair(network, kind, Fault.INVALID)
        router = await network.router(node, other)

        with pytest.raises(NodeRefused, match="less than or equal to 4096"):
            await (following(router.stream(work())) if streamed else router.complete(work()))

        assert len(node.generated) == 1
        assert other.generated == []

    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_prompt_that_is_too_long_is_told_in_plain_words(self, network: Network, kind: str) -> None:
        router = await network.router(await network.node(kind=kind, fault=Fault.OVERFLOW))

        with pytest.raises(NodeRefused, match="do not fit into the model's context"):
            await router.complete(work())

    async def test_it_is_no_mark_against_the_node(self, network: Network) -> None:
        node, other = await pair(network, "agent", Fault.INVALID)
        router = await network.router(node, other)
        for _ in range(6):
            with pytest.raises(NodeRefused):
                await router.complete(work())
            await router.complete(work())

        assert len(network.registry.available(MODEL)) == 2


@pytest.mark.asyncio
class TestAttempts:
    async def test_no_node_for_the_model(self, network: Network) -> None:
        router = await network.router(await network.node())

        with pytest.raises(NoNodes):
            await router.complete(work(model="meta-llama/Llama-3.1-8B"))
        with pytest.raises(NoNodes):
            await following(router.stream(work(model="meta-llama/Llama-3.1-8B")))

    async def test_three_nodes_are_tried_and_no_more(self, network: Network) -> None:
        nodes = [await network.node(kind="agent", fault=Fault.ERROR) for _ in range(5)]
        router = await network.router(*nodes)

        with pytest.raises(NodesFailed, match="All inference nodes failed"):
            await router.complete(work())

        assert sorted(len(node.generated) for node in nodes) == [0, 0, 1, 1, 1]

    async def test_the_last_node_is_asked_again_when_it_answered_badly(self, network: Network) -> None:
        node = await network.node(kind="agent", fault=Fault.ERROR)
        router = await network.router(node)
        with pytest.raises(NodesFailed):
            await router.complete(work())

        assert len(node.generated) == 3

    async def test_the_last_node_is_not_asked_again_when_it_is_silent(self, network: Network) -> None:
        node = await network.node(kind="agent", fault=Fault.STALL_FIRST)
        router = await network.router(node)
        with pytest.raises(NodesFailed):
            await following(router.stream(work()))

        assert len(node.generated) == 1

    async def test_requests_take_turns(self, network: Network) -> None:
        nodes = [await network.node() for _ in range(3)]
        router = await network.router(*nodes)

        urls = [(await router.complete(work())).node.url for _ in range(6)]

        assert urls == [node.url for node in nodes] * 2

    async def test_a_node_that_keeps_failing_is_left_out(self, network: Network) -> None:
        bad, good = await pair(network, "agent", Fault.ERROR)
        router = await network.router(bad, good)
        for _ in range(8):
            await router.complete(work())

        assert len(bad.generated) == 2
        assert [node.url for node in network.registry.available(MODEL)] == [good.url]

    async def test_an_answer_that_ends_well_wipes_the_marks(self, network: Network) -> None:
        node, other = await pair(network, "agent", Fault.ERROR)
        router = await network.router(node, other)
        for streamed in (True, False, True):
            for fault in (Fault.ERROR, None, None, None):  # its turn, the other one's, its turn, the other one's
                node.fault = fault
                await (_exhaust(router.stream(work()), []) if streamed else router.complete(work()))
            assert len(network.registry.available(MODEL)) == 2

        assert len(node.generated) == 6

    async def test_the_last_node_is_never_left_out(self, network: Network) -> None:
        node = await network.node(kind="agent", fault=Fault.ERROR, answers=[GOOD])
        router = await network.router(node)
        for _ in range(3):
            with pytest.raises(NodesFailed):
                await router.complete(work())
        node.fault = None

        assert (await router.complete(work())).text == GOOD


@pytest.mark.asyncio
class TestDeadlines:
    async def test_all_attempts_share_the_total(self, network: Network) -> None:
        nodes = [await network.node(kind="agent", fault=Fault.STALL_FIRST) for _ in range(3)]
        router = await network.router(*nodes, timeouts=Timeouts(first_token_s=0.2, token_s=1, total_s=0.3))
        time = asyncio.get_running_loop().time
        began = time()
        with pytest.raises(NodesFailed):
            await following(router.stream(work()))

        assert 0.29 <= time() - began < 1
        assert [len(node.generated) for node in nodes] == [1, 1, 0]

    async def test_a_whole_answer_may_take_longer_than_a_first_token(self, network: Network) -> None:
        node = await network.node(kind="petals", answers=["a b c"], delay_s=0.1)
        router = await network.router(node, timeouts=Timeouts(first_token_s=0.05, token_s=0.05, total_s=2))

        assert (await router.complete(work())).text == "a b c"
        assert [some async for some in lists(router.stream(work()))] == [["a b c"]]

    async def test_a_whole_answer_ends_with_the_total(self, network: Network) -> None:
        node = await network.node(kind="petals", fault=Fault.STALL_FIRST)
        router = await network.router(node, timeouts=Timeouts(first_token_s=1, token_s=1, total_s=0.1))
        with pytest.raises(NodesFailed):
            await router.complete(work())

        await node.idle()
        assert node.left == 1

    async def test_slow_but_steady_tokens_are_not_cut(self, network: Network) -> None:
        node = await network.node(kind="agent", answers=["a b c d e f"], delay_s=0.1)
        router = await network.router(node, timeouts=Timeouts(first_token_s=0.5, token_s=0.5, total_s=5))

        assert "".join([piece async for some in lists(router.stream(work())) for piece in some]) == "a b c d e f"

    async def test_a_consumer_that_is_slow_is_not_the_nodes_fault(self, network: Network) -> None:
        node = await network.node(kind="agent", answers=["a b c"], delay_s=0.01)
        router = await network.router(node, timeouts=Timeouts(first_token_s=2, token_s=0.1, total_s=5))
        pieces = []
        async for some in lists(router.stream(work())):
            pieces += some
            await asyncio.sleep(0.2)

        assert "".join(pieces) == "a b c"

    @pytest.mark.parametrize("kind", ["petals", "openai"])
    async def test_a_node_that_goes_offline_is_given_up_while_it_owes_its_answer(
        self, network: Network, kind: str
    ) -> None:
        bad, good = await pair(network, kind, Fault.STALL_FIRST)
        router = await network.router(bad, good, timeouts=Timeouts(first_token_s=9, token_s=9, total_s=9))
        asked = asyncio.create_task(router.complete(work()))
        while not bad.working:
            await asyncio.sleep(0.001)
        await network.share(known(good))

        assert (await asyncio.wait_for(asked, 3)).text == GOOD

    async def test_an_agent_that_misses_its_probes_while_it_works_for_us_is_not(self, network: Network) -> None:
        agent = await network.node(kind="agent", answers=["a b"], delay_s=0.1)
        router = await network.router(agent)
        asked = asyncio.create_task(router.complete(work()))
        while not agent.working:
            await asyncio.sleep(0.001)
        await network.share()

        assert (await asked).text == "a b"


@pytest.mark.asyncio
class TestLeaving:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_a_caller_who_leaves_ends_the_work_of_a_whole_answer(self, network: Network, kind: str) -> None:
        node, other = await pair(network, kind, Fault.STALL_FIRST)
        router = await network.router(node, other)
        asked = asyncio.create_task(router.complete(work()))
        while not node.working:
            await asyncio.sleep(0.001)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await node.idle()

        assert (node.left, len(network.registry.available(MODEL)), other.generated) == (1, 2, [])
        assert network.pool.connections == 0

    @pytest.mark.parametrize("kind", ["agent", "openai"])
    @pytest.mark.parametrize("way", ["cancel", "aclose"])
    async def test_a_caller_who_leaves_ends_the_work_of_a_stream(self, network: Network, kind: str, way: str) -> None:
        node = await network.node(kind=kind, fault=Fault.STALL_BETWEEN, answers=["a b c"], after=1)
        stream = (await network.router(node, timeouts=Timeouts(first_token_s=5, token_s=5, total_s=9))).stream(work())
        assert await following(stream) == ["a"]
        if way == "cancel":
            waiting = asyncio.ensure_future(following(stream))
            await asyncio.sleep(0.01)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
        await stream.aclose()
        await stream.aclose()
        await node.idle()

        assert node.left == 1
        assert [some async for some in lists(stream)] == []
        assert stream.answer.pieces == 1
        assert len(network.registry.available(MODEL)) == 1

    async def test_a_stream_that_is_never_read_asks_nobody(self, network: Network) -> None:
        node = await network.node()
        await (await network.router(node)).stream(work()).aclose()

        assert node.requests == []

    @pytest.mark.parametrize("fault", [Fault.STALL_FIRST, Fault.STALL_BETWEEN])
    async def test_an_ending_process_tells_everyone_at_once(self, network: Network, fault: str) -> None:
        node, other = await pair(network, "agent", fault, after=1)
        router = await network.router(node, other, timeouts=Timeouts(first_token_s=9, token_s=9, total_s=9))
        reading = asyncio.create_task(_exhaust(router.stream(work()), []))
        while not node.working:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.02)
        network.pool.interrupt(ShuttingDown())
        with pytest.raises(ShuttingDown):
            await asyncio.wait_for(reading, 1)
        with pytest.raises(ShuttingDown):
            await router.complete(work())

        assert other.generated == []


async def _exhaust(stream: NodeStream, pieces: list[str]) -> None:
    async for some in lists(stream):
        pieces += some
