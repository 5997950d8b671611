"""Reading what nodes send: nothing that they can write makes more than a failure of theirs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.nodes.attempt import answer_to
from core.nodes.node import NodeKind
from core.nodes.transport.answers import Answer
from core.nodes.transport.failures import NodeBroken, NodeFailed
from tests.nodes.network import work

KINDS = list(NodeKind)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["token", "error", "choices", "delta", "content", "usage", "generated_text", "num_tokens"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


def event(text: bytes) -> bytes:
    """A token of any kind of node, not escaped."""
    return b'{"token": "%b", "choices": [{"text": "%b"}], "type": "chunk", "content": "%b"}' % (text, text, text)


def openai(**changes: object) -> bytes:
    return json.dumps({"choices": [{"index": 0, **changes}]}).encode()


@pytest.mark.parametrize("kind", KINDS)
class TestAnyInput:
    @given(st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
    def test_gives_text_or_a_failure_of_the_node(self, kind: NodeKind, data: bytes) -> None:
        for read in (Answer.event, Answer.whole):
            answer = answer_to(work(inputs_stop=("ab",)), kind)
            try:
                text = getattr(answer, read.__name__)(data)
            except NodeFailed:
                continue
            assert isinstance(text, str)
            assert answer.tokens is None or answer.tokens >= 0

    @pytest.mark.parametrize("data", [b"[" * 100_000, b'{"a":' * 100_000, event(b"\xff"), event(b"\\ud800")])
    def test_hostile_json_is_broken(self, kind: NodeKind, data: bytes) -> None:
        answer = answer_to(work(), kind)
        with pytest.raises(NodeBroken):
            answer.event(data)

    def test_more_text_than_tokens_can_have_is_broken(self, kind: NodeKind) -> None:
        answer = answer_to(work(max_tokens=2), kind)
        text = "x" * (64 + 1024)
        assert answer.event(event(text.encode())) == text
        with pytest.raises(NodeBroken):
            answer.event(event(text.encode()))


class TestAgent:
    @pytest.mark.parametrize("error", ["out of memory", "", {"message": "x"}, False])
    def test_an_error_event_is_a_failure(self, error: object) -> None:
        with pytest.raises(NodeFailed):
            answer_to(work(), NodeKind.AGENT).event(json.dumps({"error": error}).encode())

    def test_json_of_another_protocol_is_broken(self) -> None:
        with pytest.raises(NodeBroken):
            answer_to(work(), NodeKind.PETALS).whole(b'{"ok": true, "outputs": "hi"}')


class TestOpenAI:
    def test_reasoning_is_no_text(self) -> None:
        answer = answer_to(work(), NodeKind.OPENAI)
        assert answer.event(openai(delta={"content": None, "reasoning_content": "hmm"})) == ""
        assert answer.pieces == 0

    @pytest.mark.parametrize("body", [b'{"choices": []}', b"{}", b'{"error": {"message": "x"}, "choices": []}'])
    def test_an_answer_without_a_choice_is_a_failure(self, body: bytes) -> None:
        with pytest.raises(NodeFailed):
            answer_to(work(), NodeKind.OPENAI).whole(body)

    @pytest.mark.parametrize(("said", "told"), [("length", "length"), ("stop", "stop"), ("tool_calls", "stop")])
    def test_it_says_why_it_ended(self, said: str, told: str) -> None:
        answer = answer_to(work(), NodeKind.OPENAI)
        answer.event(openai(delta={"content": "a"}))
        assert answer.finish_reason is None
        answer.event(openai(delta={}, finish_reason=said))
        answer.event(b"[DONE]")

        assert answer.finish_reason == told

    def test_negative_usage_is_no_usage(self) -> None:
        answer = answer_to(work(), NodeKind.OPENAI)
        answer.event(b'{"choices": [], "usage": {"prompt_tokens": -3, "completion_tokens": 4}}')

        assert (answer.prompt_tokens, answer.tokens) == (None, 4)
