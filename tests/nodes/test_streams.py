"""Answers as they come in: cuts anywhere, stop sequences, special tokens, why they ended, connections used again."""

from __future__ import annotations

import asyncio

import pytest
from msgspec import structs

from core.errors import NodesFailed
from core.inference.requests import Message
from core.nodes.address_guard import AddressGuard
from core.nodes.attempt import Timeouts
from core.nodes.router import NodeStream
from core.nodes.transport.pool import ConnectionPool
from tests.fakes.node_server import Fault
from tests.nodes.network import Network, known, work
from tests.nodes.raw_server import until
from tests.streams import following, lists

KINDS = ["petals", "agent", "openai"]
PATIENT = Timeouts(first_token_s=5, token_s=5, total_s=9)


@pytest.mark.asyncio
class TestSegments:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("split", [1, 2, 3, 7, 64])
    async def test_text_survives_any_segment_size(self, network: Network, kind: str, split: int) -> None:
        text = "안녕 🙂 wörld\n\ndata: x"
        router = await network.router(await network.node(kind=kind, answers=[text], split=split), timeouts=PATIENT)

        assert await _text(router.stream(work())) == text
        assert (await router.complete(work())).text == text

    @pytest.mark.parametrize("kind", ["agent", "openai"])
    async def test_each_token_event_is_a_piece(self, network: Network, kind: str) -> None:
        tokens = ["Hel", "lo", "", ", ", "world"]
        router = await network.router(await network.node(kind=kind, answers=[tokens]))
        stream = router.stream(work())

        pieces = [piece async for some in lists(stream) for piece in some]

        assert pieces == ["Hel", "lo", ", ", "world"]
        assert stream.answer.pieces == 4
        assert stream.answer.text == ""

    @pytest.mark.parametrize("kind", ["agent", "openai"])
    async def test_a_piece_leaves_before_the_next_one_is_made(self, network: Network, kind: str) -> None:
        node = await network.node(kind=kind, answers=["a b c"], after=1, fault=Fault.STALL_BETWEEN)
        stream = (await network.router(node, timeouts=PATIENT)).stream(work())

        assert await asyncio.wait_for(following(stream), 2) == ["a"]
        await stream.aclose()

    async def test_a_reader_that_pauses_lets_the_node_wait(self, network: Network) -> None:
        tokens = ["x" * 60] * 100_000
        node = await network.node(kind="agent", answers=[tokens])
        router = await network.router(node, timeouts=PATIENT)
        stream = router.stream(work(max_tokens=100_000))
        await following(stream)
        await asyncio.sleep(0.3)

        assert node.working == 1  # 8 MB do not fit into any buffer on the way
        assert sum([len(some) async for some in lists(stream)]) > 90_000


@pytest.mark.asyncio
class TestStopSequences:
    @pytest.mark.parametrize("kind", ["petals", "agent"])
    async def test_an_inputs_node_is_cut_and_its_work_ended(self, network: Network, kind: str) -> None:
        answer = ["One", " two", "\n#", "## US", "ER:", " three"]
        node = await network.node(kind=kind, answers=[answer], delay_s=0.02)
        router = await network.router(node)
        asked = work(inputs_stop=("\n### USER:",))
        stream = router.stream(asked)

        assert await _text(stream) == "One two"
        await node.idle()
        assert stream.answer.finish_reason == "stop"
        assert node.left == (kind == "agent")
        whole = await router.complete(asked)
        assert (whole.text, whole.finish_reason) == ("One two", "stop")

    async def test_what_only_looked_like_a_stop_is_handed_out(self, network: Network) -> None:
        node = await network.node(kind="agent", answers=[["a\n", "##", " b", "\n##"]])
        stream = (await network.router(node)).stream(work(inputs_stop=("\n###",)))

        assert await _text(stream) == "a\n## b\n##"

    @pytest.mark.parametrize("kind", ["petals", "agent"])
    async def test_an_answer_that_begins_with_a_stop_is_empty(self, network: Network, kind: str) -> None:
        node = await network.node(kind=kind, answers=["### USER: hi"])
        router = await network.router(node)
        stream = router.stream(work(inputs_stop=("### USER:",)))

        assert [some async for some in lists(stream)] == []
        assert (await router.complete(work(inputs_stop=("### USER:",)))).text == ""

    async def test_an_openai_node_gets_the_users_stops_and_cuts_itself(self, network: Network) -> None:
        node = await network.node(kind="openai", answers=["one two three"])
        router = await network.router(node)
        stream = router.stream(work(stop=(" two",), inputs_stop=("one",)))

        assert await _text(stream) == "one"
        assert node.generated[0].body["stop"] == [" two"]

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_an_openai_node_that_stopped_at_once_has_answered(self, network: Network, streamed: bool) -> None:
        node = await network.node(kind="openai", answers=["one"])
        router = await network.router(node)
        asked = work(stop=("one",))

        if streamed:
            assert [some async for some in lists(router.stream(asked))] == []
        else:
            assert (await router.complete(asked)).finish_reason == "stop"
        assert len(node.generated) == 1

    @pytest.mark.parametrize("kind", KINDS)
    async def test_an_empty_answer_without_a_reason_is_a_failure(self, network: Network, kind: str) -> None:
        router = await network.router(await network.node(kind=kind, fault=Fault.EMPTY))

        with pytest.raises(NodesFailed):
            await router.complete(work())
        with pytest.raises(NodesFailed):
            await following(router.stream(work()))

    async def test_a_node_that_only_reasoned_has_answered(self, network: Network) -> None:
        node = await network.node(kind="openai", fault=Fault.EMPTY, reasoning=True)
        stream = (await network.router(node)).stream(work())

        assert [some async for some in lists(stream)] == []


@pytest.mark.asyncio
class TestSpecialTokens:
    @pytest.mark.parametrize("ending", [["</s>"], ["<|im_end|>", "<|endoftext|>"], ["!</s></s>"]])
    async def test_they_are_stripped_from_the_end(self, network: Network, ending: list[str]) -> None:
        router = await network.router(await network.node(kind="agent", answers=[["Hi", *ending]]))
        expected = "Hi" + ending[0].replace("</s>", "").replace("<|im_end|>", "")

        assert await _text(router.stream(work())) == expected
        assert (await router.complete(work())).text == expected

    async def test_within_the_text_they_stay(self, network: Network) -> None:
        router = await network.router(await network.node(kind="agent", answers=[["<s>", "a", "</s>", "b", ">"]]))

        assert await _text(router.stream(work())) == "<s>a</s>b>"

    async def test_nothing_but_special_tokens_is_an_empty_answer(self, network: Network) -> None:
        router = await network.router(await network.node(kind="agent", answers=[["</s>"]]))
        with pytest.raises(NodesFailed):
            await following(router.stream(work()))


@pytest.mark.asyncio
class TestFinishReason:
    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("limit", "reason"), [(2, "length"), (9, "stop")])
    async def test_it_tells_whether_the_limit_was_met(
        self, network: Network, kind: str, limit: int, reason: str
    ) -> None:
        router = await network.router(await network.node(kind=kind, answers=["one two three"]))
        stream = router.stream(work(max_tokens=limit))
        await _text(stream)

        assert stream.answer.finish_reason == reason
        assert (await router.complete(work(max_tokens=limit))).finish_reason == reason

    async def test_the_nodes_own_figures_are_passed_on(self, network: Network) -> None:
        for kind, tokens, prompt in (("petals", 3, None), ("agent", None, None), ("openai", 3, 4)):
            stream = (await network.router(await network.node(kind=kind, answers=["a b c"]))).stream(work())
            await _text(stream)

            assert (stream.answer.tokens, stream.answer.prompt_tokens) == (tokens, prompt)


@pytest.mark.asyncio
class TestRequests:
    @pytest.mark.parametrize("streamed", [False, True])
    async def test_an_inputs_node_gets_the_templated_prompt(self, network: Network, streamed: bool) -> None:
        node = await network.node(kind="agent")
        router = await network.router(node)
        asked = work(temperature=0.0, max_tokens=9)
        if streamed:
            await _text(router.stream(asked))
        else:
            await router.complete(asked)

        (seen,) = node.generated
        parameters = {"max_new_tokens": 9, "temperature": 0.0, "top_p": 0.9, "do_sample": False}
        expected = {"inputs": asked.prompt, "parameters": parameters, **({"stream": True} if streamed else {})}
        assert (seen.path, seen.body) == ("/api/v1/generate", expected)

    async def test_an_openai_node_gets_messages_and_its_own_name_of_the_model(self, network: Network) -> None:
        node = await network.node(kind="openai", model="bloom.gguf")
        router = await network.router(node)
        await router.complete(work(temperature=0.0, messages=(Message("system", "Be 짧게."), Message("user", "Hi"))))

        (seen,) = node.generated
        messages = [{"role": "system", "content": "Be 짧게."}, {"role": "user", "content": "Hi"}]
        sampling = {"max_tokens": 64, "temperature": 0.0, "top_p": 0.9}
        assert (seen.path, seen.body) == (
            "/v1/chat/completions",
            {"model": "bloom.gguf", "messages": messages, **sampling},
        )

    async def test_an_openai_node_completes_a_bare_prompt(self, network: Network) -> None:
        node = await network.node(kind="openai")
        stream = (await network.router(node)).stream(work(messages=None, prompt="Once"))
        await _text(stream)

        (seen,) = node.generated
        assert seen.path == "/v1/completions"
        assert (seen.body["prompt"], seen.body["stream_options"]) == ("Once", {"include_usage": True})
        assert "messages" not in seen.body

    async def test_a_path_in_the_nodes_url_is_kept(self, network: Network) -> None:
        node = await network.node(kind="agent")
        router = await network.router(node)
        await network.share(structs.replace(known(node), url=f"{node.url}/base"))
        with pytest.raises(NodesFailed):
            await router.complete(work())

        assert node.generated[0].path == "/base/api/v1/generate"


@pytest.mark.asyncio
class TestConnections:
    @pytest.mark.parametrize("kind", KINDS)
    async def test_one_connection_serves_request_after_request(self, network: Network, kind: str) -> None:
        node = await network.node(kind=kind, delay_s=0.001)
        router = await network.router(node)
        for _ in range(5):
            await router.complete(work())
            await _text(router.stream(work()))
            await asyncio.sleep(0.02)  # the last chunk's framing

        assert node.accepted == 1
        assert network.pool.connections == 1

    async def test_many_at_once_share_nothing_but_the_pool(self, network: Network) -> None:
        answers = [f"answer {number}" for number in range(20)]
        node = await network.node(kind="agent", answers=answers, delay_s=0.005)
        router = await network.router(node)
        texts = await asyncio.gather(*(_text(router.stream(work())) for _ in range(20)))

        assert sorted(texts) == sorted(answers)
        assert node.accepted == 20
        await asyncio.gather(*(router.complete(work()) for _ in range(20)))
        assert node.accepted == 20

    async def test_an_answer_with_a_fault_never_leaves_its_connection_behind(self, network: Network) -> None:
        node = await network.node(kind="agent", fault=Fault.ERROR_EVENT, after=0)
        router = await network.router(node)
        with pytest.raises(NodesFailed):
            await following(router.stream(work()))

        await until(lambda: network.pool.connections == 0)
        assert (network.pool.connections, node.accepted) == (0, 3)

    async def test_a_secret_goes_to_nodes_as_a_bearer_token(self, network: Network) -> None:
        node = await network.node(kind="agent", secret="s3cret")
        with pytest.raises(NodesFailed):
            await (await network.router(node)).complete(work())
        await network.pool.aclose()
        network.pool = ConnectionPool(1.0, guard=AddressGuard([node.url]), secret="s3cret")

        await (await network.router(node)).complete(work())


async def _text(stream: NodeStream) -> str:
    return "".join([piece async for some in lists(stream) for piece in some])
