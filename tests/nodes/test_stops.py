"""Stop sequences: cut like a search after each character, and nothing waits that need not."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.nodes.transport.stops import StopFilter

TEXT = st.text(alphabet="ab#\n", max_size=40)
STOPS = st.lists(st.text(alphabet="ab#\n", min_size=1, max_size=4), max_size=4).map(tuple)


def slowly(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """Looks for a stop sequence after each character."""
    for end in range(1, len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)], True
    return text, False


def may_be_a_beginning(text: str, stops: tuple[str, ...]) -> int:
    """The longest end of the text that is a beginning of a stop sequence."""
    return max(
        (n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])),
        default=0,
    )


def pieces_of(text: str, cuts: list[int]) -> list[str]:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    return [text[start:end] for start, end in pairwise(ends)]


class TestStopFilter:
    @given(TEXT, STOPS, st.lists(st.integers(0, 40), max_size=10))
    def test_cuts_where_a_search_after_each_character_cuts(
        self, text: str, stops: tuple[str, ...], cuts: list[int]
    ) -> None:
        stop = StopFilter(stops)

        passed = "".join([stop.feed(piece) for piece in pieces_of(text, cuts)]) + stop.finish()

        assert (passed, stop.hit) == slowly(text, stops)

    @given(TEXT, STOPS, st.lists(st.integers(0, 40), max_size=10))
    def test_holds_back_only_what_may_begin_a_sequence(
        self, text: str, stops: tuple[str, ...], cuts: list[int]
    ) -> None:
        stop, fed, passed = StopFilter(stops), "", ""

        for piece in pieces_of(text, cuts):
            fed += piece
            passed += stop.feed(piece)
            if not stop.hit:
                assert len(fed) - len(passed) == may_be_a_beginning(fed, stops)

    @pytest.mark.parametrize("text", ["  spaces  ", "\n", "", "tail "])
    def test_never_trims(self, text: str) -> None:
        stop = StopFilter(("###",))

        assert stop.feed(text) + stop.finish() == text

    def test_passes_nothing_after_the_stop(self) -> None:
        stop = StopFilter(("END",))

        assert [stop.feed("one EN"), stop.feed("D two"), stop.feed("three"), stop.finish()] == ["one ", "", "", ""]

    def test_an_empty_sequence_stops_nothing(self) -> None:
        assert StopFilter(("",)).feed("text") == "text"
