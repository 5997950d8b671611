"""Counting tokens: truthful figures, whatever a node says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.inference.completion import Usage
from core.inference.requests import InferenceRequest, Message
from core.metrics.meter import Meter, estimate

PROMPT = InferenceRequest(model="m", prompt="What is AI?")  # 11 ASCII characters: 3 tokens
CONTEXT = 2048
PIECES = st.lists(st.lists(st.text(min_size=1, max_size=10), min_size=1, max_size=4), max_size=6)


def metered(pieces: list[list[str]], max_tokens: int = 100) -> Meter:
    """A meter that these lists of pieces have passed."""
    meter = Meter(PROMPT, max_tokens, CONTEXT)
    for some in pieces:
        meter.add(some)
    return meter


class TestAnEstimate:
    @pytest.mark.parametrize(
        ("text", "tokens"),
        [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("é", 1), ("éé", 1), ("안녕", 3), ("😀", 2), ("ab안é", 3)],
    )
    def test_weighs_scripts(self, text: str, tokens: int) -> None:
        assert estimate(text) == tokens

    @given(st.text(), st.text())
    def test_never_shrinks_as_text_grows(self, text: str, more: str) -> None:
        assert estimate(text) <= estimate(text + more) <= estimate(text) + estimate(more)


class TestTheAnswer:
    def test_counts_an_event_as_a_token(self) -> None:
        assert metered([["a"], ["b", "c"]]).usage() == Usage(3, 3, 6)

    def test_in_one_piece_is_estimated(self) -> None:
        assert metered([["안녕하세요"]]).usage().completion_tokens == 8

    def test_that_never_came_is_nothing(self) -> None:
        assert metered([]).usage() == Usage(3, 0, 3)

    def test_takes_the_nodes_figures_where_they_can_be_true(self) -> None:
        assert metered([["Hello there"]]).usage(2, 7) == Usage(7, 2, 9)

    def test_of_one_emoji_may_be_four_tokens(self) -> None:
        assert metered([["😀"]]).usage(4).completion_tokens == 4

    def test_has_no_more_tokens_than_bytes(self) -> None:
        assert metered([["Hi"]], max_tokens=4096).usage(4096).completion_tokens <= 8

    def test_has_no_more_tokens_than_were_asked_for(self) -> None:
        assert metered([["a long enough text to hold them"]], max_tokens=5).usage(20).completion_tokens == 5

    @given(PIECES, st.none() | st.integers(min_value=0, max_value=2**63), st.integers(min_value=1, max_value=50))
    def test_stays_within_bounds_whatever_a_node_says(
        self, pieces: list[list[str]], reported: int | None, max_tokens: int
    ) -> None:
        usage = metered(pieces, max_tokens).usage(reported)
        size = sum(len(piece.encode()) for some in pieces for piece in some)

        assert 0 <= usage.completion_tokens <= max_tokens
        assert usage.completion_tokens <= 4 * size
        assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens

    @given(PIECES)
    def test_without_a_figure_counts_just_its_events(self, pieces: list[list[str]]) -> None:
        events = [piece for some in pieces for piece in some]
        expected = len(events) if len(events) > 1 else sum(map(estimate, events))

        assert metered(pieces, max_tokens=1000).usage().completion_tokens == expected


class TestThePrompt:
    def test_of_a_chat_is_all_its_messages(self) -> None:
        chat = InferenceRequest(model="m", messages=(Message("system", "abcd"), Message("user", "안녕")))

        assert Meter(chat, 10, CONTEXT).usage().prompt_tokens == 1 + 3

    def test_beside_messages_is_the_prompt_alone(self) -> None:
        both = InferenceRequest(model="m", prompt="abcd", messages=(Message("user", "x" * 400),))

        assert Meter(both, 10, CONTEXT).usage().prompt_tokens == 1

    @pytest.mark.parametrize("reported", [None, 7, 2**60])
    def test_is_never_longer_than_the_context(self, reported: int | None) -> None:
        long = InferenceRequest(model="m", prompt="안" * 32_000)

        assert Meter(long, 10, CONTEXT).usage(None, reported).prompt_tokens == min(reported or CONTEXT, CONTEXT)
