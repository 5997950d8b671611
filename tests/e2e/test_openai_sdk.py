"""OpenAI's own client library works against the gateway as it does against OpenAI, whatever kind of node serves."""

from __future__ import annotations

from collections.abc import Iterator

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from tests.e2e.client import eventually_none_work
from tests.e2e.conftest import OPERATOR_KEY
from tests.e2e.network import AGENT, OPENAI, PETALS, PRO, TWINS, Network

KINDS = [PETALS, AGENT, OPENAI]
STREAMING = [AGENT, OPENAI]
CHAT: list[ChatCompletionMessageParam] = [
    {"role": "system", "content": "You help."},
    {"role": "user", "content": "What is AI?"},
]
HELLO = "Hello from the node."
LINES = "하나\n둘 😀\u2028three\x85\r\n\tfour"  # characters at which careless readers cut lines


def client_for(url: str, key: str) -> OpenAI:
    """A client that never tries again by itself."""
    return OpenAI(api_key=key, base_url=f"{url}/v1", max_retries=0, timeout=20)


@pytest.fixture
def client(url: str, token: str) -> Iterator[OpenAI]:
    """A Free user's client."""
    with client_for(url, token) as opened:
        yield opened


def text_of(chunks: list[ChatCompletionChunk]) -> str:
    """What the chunks of a chat say."""
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@pytest.mark.parametrize("model", KINDS)
class TestEveryKindOfNode:
    def test_answers_a_chat(self, client: OpenAI, model: str) -> None:
        completion = client.chat.completions.create(model=model, messages=CHAT)

        assert completion.id.startswith("chatcmpl-")
        assert (completion.object, completion.model) == ("chat.completion", model)
        assert completion.choices[0].message.role == "assistant"
        assert completion.choices[0].message.content == HELLO
        assert completion.choices[0].finish_reason == "stop"
        assert completion.usage is not None
        assert completion.usage.completion_tokens == 4
        assert completion.usage.total_tokens == completion.usage.prompt_tokens + 4

    def test_answers_a_chat_in_chunks(self, client: OpenAI, model: str) -> None:
        chunks = list(client.chat.completions.create(model=model, messages=CHAT, stream=True))

        assert chunks[0].choices[0].delta.role == "assistant"
        assert text_of(chunks) == HELLO
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
        assert {(chunk.id, chunk.object, chunk.model, chunk.created) for chunk in chunks} == {
            (chunks[0].id, "chat.completion.chunk", model, chunks[0].created)
        }
        assert all(chunk.usage is None for chunk in chunks)

    def test_tells_the_usage_of_a_stream_when_asked(self, client: OpenAI, model: str) -> None:
        *chunks, last = client.chat.completions.create(
            model=model, messages=CHAT, stream=True, stream_options={"include_usage": True}
        )

        assert text_of(chunks) == HELLO
        assert last.choices == []
        assert last.usage is not None
        assert last.usage.completion_tokens == 4
        assert last.usage.total_tokens == last.usage.prompt_tokens + 4

    def test_answers_a_prompt(self, client: OpenAI, model: str) -> None:
        completion = client.completions.create(model=model, prompt="Once", max_tokens=9)

        assert (completion.object, completion.choices[0].text) == ("text_completion", HELLO)
        assert completion.choices[0].finish_reason == "stop"

    def test_answers_a_prompt_in_chunks(self, client: OpenAI, model: str) -> None:
        chunks = list(client.completions.create(model=model, prompt="Once", stream=True))

        assert "".join(chunk.choices[0].text for chunk in chunks) == HELLO
        assert chunks[-1].choices[0].finish_reason == "stop"

    @pytest.mark.parametrize("stop", [" from", [" never", " from"]])
    def test_stops_where_it_is_told(self, client: OpenAI, model: str, stop: str | list[str]) -> None:
        whole = client.chat.completions.create(model=model, messages=CHAT, stop=stop)
        chunks = list(client.chat.completions.create(model=model, messages=CHAT, stop=stop, stream=True))

        assert whole.choices[0].message.content == text_of(chunks) == "Hello"
        assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "stop"

    def test_stops_at_the_very_first_character(self, client: OpenAI, model: str) -> None:
        whole = client.chat.completions.create(model=model, messages=CHAT, stop="Hello")
        chunks = list(client.chat.completions.create(model=model, messages=CHAT, stop="Hello", stream=True))

        assert (whole.choices[0].message.content or "") == text_of(chunks) == ""
        assert chunks[-1].choices[0].finish_reason == "stop"

    def test_says_that_the_limit_cut_the_answer(self, client: OpenAI, model: str) -> None:
        whole = client.chat.completions.create(model=model, messages=CHAT, max_completion_tokens=2)
        chunks = list(client.chat.completions.create(model=model, messages=CHAT, max_tokens=2, stream=True))

        assert whole.choices[0].message.content == text_of(chunks) == "Hello from"
        assert whole.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 2

    def test_keeps_every_character(self, client: OpenAI, nodes: Network, model: str) -> None:
        nodes.node_of(model).answers = ([LINES[:5], LINES[5:9], LINES[9:]],)

        whole = client.chat.completions.create(model=model, messages=CHAT)
        chunks = list(client.chat.completions.create(model=model, messages=CHAT, stream=True))

        assert whole.choices[0].message.content == text_of(chunks) == LINES

    def test_failing_is_a_server_error(self, client: OpenAI, nodes: Network, model: str) -> None:
        nodes.node_of(model).fault = "500"

        for stream in (False, True):
            with pytest.raises(openai.InternalServerError) as refused:
                client.chat.completions.create(model=model, messages=CHAT, stream=stream)
            assert (refused.value.status_code, refused.value.code) == (503, "nodes_failed")
            assert "CUDA" not in str(refused.value)

    def test_refusing_is_the_requests_fault(self, client: OpenAI, nodes: Network, model: str) -> None:
        nodes.node_of(model).fault = "400"

        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=model, messages=CHAT)

        assert refused.value.code == "node_refused"
        assert len(nodes.node_of(model).generated) == 1


@pytest.mark.parametrize("model", STREAMING)
class TestAStreamThatBreaks:
    @pytest.mark.parametrize("fault", ["cut-line", "cut-utf8", "no-end", "garbage", "error-event", "stall-between"])
    def test_raises_after_what_came(self, client: OpenAI, nodes: Network, model: str, fault: str) -> None:
        node = nodes.node_of(model)
        node.fault, node.after, node.delay_s = fault, 2, 0.15  # so that the first token leaves before the fault
        stream, heard = client.chat.completions.create(model=model, messages=CHAT, stream=True), list[str]()

        with pytest.raises(openai.APIError) as broken:
            heard.extend(chunk.choices[0].delta.content or "" for chunk in stream)

        assert "".join(heard) == (HELLO if fault == "no-end" else "Hello from")
        assert broken.value.code == "nodes_failed"
        assert "CUDA" not in str(broken.value)

    def test_off_because_the_client_leaves_ends_the_nodes_work(
        self, client: OpenAI, nodes: Network, model: str
    ) -> None:
        node = nodes.node_of(model)
        node.answers, node.delay_s = (["word "] * 100,), 0.05

        with client.chat.completions.create(model=model, messages=CHAT, stream=True) as stream:
            assert next(iter(stream)).choices[0].delta.role == "assistant"
        eventually_none_work(node)

        assert node.left == 1


class TestRequests:
    def test_parts_of_text_are_joined(self, client: OpenAI, nodes: Network) -> None:
        parts: list[ChatCompletionMessageParam] = [
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]}
        ]
        client.chat.completions.create(model=OPENAI, messages=parts)

        assert nodes.openai.generated[0].body["messages"] == [{"role": "user", "content": "one\ntwo"}]

    def test_what_samples_is_passed_on(self, client: OpenAI, nodes: Network) -> None:
        client.chat.completions.create(model=OPENAI, messages=CHAT, temperature=0, top_p=0.5, max_tokens=7, seed=1)

        asked = nodes.openai.generated[0].body
        assert (asked["temperature"], asked["top_p"], asked["max_tokens"]) == (0, 0.5, 7)

    def test_several_choices_are_refused_by_name(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=PETALS, messages=CHAT, n=2)

        assert (refused.value.param, refused.value.type) == ("n", "invalid_request_error")

    def test_an_image_is_refused_by_name(self, client: OpenAI) -> None:
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.create(
                model=PETALS,
                messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c"}}]}],
            )

        assert refused.value.param == "messages[0].content[0]"

    @pytest.mark.parametrize("stream", [False, True])
    def test_an_unknown_model_is_not_found(self, client: OpenAI, stream: bool) -> None:
        with pytest.raises(openai.NotFoundError) as refused:
            client.chat.completions.create(model="gpt-4o", messages=CHAT, stream=stream)

        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")

    def test_a_pro_model_is_not_for_free_users(self, client: OpenAI) -> None:
        with pytest.raises(openai.PermissionDeniedError) as refused:
            client.chat.completions.create(model=PRO, messages=CHAT)

        assert refused.value.code == "model_requires_pro"

    def test_each_answer_has_an_id_that_support_can_ask_for(self, client: OpenAI) -> None:
        completion = client.chat.completions.create(model=PETALS, messages=CHAT)

        assert completion._request_id

    def test_an_error_has_an_id_too(self, client: OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as refused:
            client.models.retrieve("gpt-4o")

        assert refused.value.request_id


class TestKeys:
    @pytest.mark.parametrize("key", ["sk-wrong", "a.b.c", OPERATOR_KEY + "x"])
    def test_a_bad_key_is_refused(self, url: str, key: str) -> None:
        with client_for(url, key) as client, pytest.raises(openai.AuthenticationError) as refused:
            client.chat.completions.create(model=PETALS, messages=CHAT)

        assert refused.value.code == "invalid_api_key"

    def test_a_free_user_is_limited_and_told_until_when(self, client: OpenAI) -> None:
        for _ in range(10):
            client.completions.create(model=PETALS, prompt="hi", max_tokens=1)

        for stream in (False, True):
            with pytest.raises(openai.RateLimitError) as limited:
                client.completions.create(model=PETALS, prompt="hi", max_tokens=1, stream=stream)

            headers = limited.value.response.headers
            assert limited.value.code == "rate_limit_exceeded"
            assert 3590 <= int(headers["retry-after"]) <= 3600
            assert headers["x-ratelimit-remaining-requests"] == "0"

    def test_the_operators_key_is_not_limited(self, url: str) -> None:
        with client_for(url, OPERATOR_KEY) as client:
            for _ in range(12):
                raw = client.completions.with_raw_response.create(model=PETALS, prompt="hi", max_tokens=1)

        assert "x-ratelimit-limit-requests" not in raw.headers

    def test_the_operator_may_ask_for_pro_models(self, url: str) -> None:
        with client_for(url, OPERATOR_KEY) as client, pytest.raises(openai.InternalServerError) as refused:
            client.chat.completions.create(model=PRO, messages=CHAT)

        assert (refused.value.status_code, refused.value.code) == (503, "no_nodes")


class TestModels:
    def test_are_listed(self, client: OpenAI) -> None:
        listed = {model.id: model for model in client.models.list()}

        assert {PETALS, AGENT, OPENAI, TWINS, PRO} <= listed.keys()
        assert listed[PETALS].object == "model"

    def test_with_a_slash_are_found(self, client: OpenAI) -> None:
        assert client.models.retrieve(PETALS).id == PETALS


@pytest.mark.asyncio
class TestTheAsynchronousClient:
    @pytest.mark.parametrize("model", KINDS)
    async def test_chats_whole_and_in_chunks(self, url: str, token: str, model: str) -> None:
        async with AsyncOpenAI(api_key=token, base_url=f"{url}/v1", max_retries=0) as client:
            whole = await client.chat.completions.create(model=model, messages=CHAT)
            stream = await client.chat.completions.create(model=model, messages=CHAT, stream=True)
            chunks = [chunk async for chunk in stream]

        assert whole.choices[0].message.content == text_of(chunks) == HELLO
