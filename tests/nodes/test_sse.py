"""Event framing: whatever the cuts, the events are those of a slow reader of the whole text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.nodes.transport.failures import NodeBroken
from core.nodes.transport.sse import MAX_LINE, EventFraming

LINES = st.one_of(
    st.text(alphabet='ab 안녕🙂:{}"', max_size=12).map(lambda text: f"data: {text}"),
    st.sampled_from(["data:x", "data", "data:", "data:  two", ": ping", "event: x", "id: 7", "retry: 10", "dat", ""]),
)


def slowly(raw: bytes) -> list[bytes]:
    """The specification, word for word, over the whole stream."""
    events, data = [], list[str]()
    for line in [line.removesuffix("\r") for line in raw.decode().split("\n")[:-1]]:
        name, _, value = line.partition(":")
        if line == "":
            if data:
                events.append("\n".join(data).encode())
            data = []
        elif name == "data":
            data.append(value.removeprefix(" "))
    return events


def in_pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    framing, events, start = EventFraming(), list[bytes](), 0
    for cut in [*sorted(cuts), len(raw)]:
        events += framing.feed(raw[start:cut])
        start = max(start, cut)
    return events


class TestEventFraming:
    @given(st.lists(LINES, max_size=20), st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(0, 300), max_size=12))
    def test_cuts_never_change_the_events(self, lines: list[str], ending: str, cuts: list[int]) -> None:
        raw = "".join(line + ending for line in lines).encode()

        assert in_pieces(raw, [min(cut, len(raw)) for cut in cuts]) == slowly(raw)

    def test_every_single_cut_keeps_every_character(self) -> None:
        raw = 'data: {"token": "안녕 🙂"}\r\n\r\n: ping\n\ndata:[DONE]\n\n'.encode()
        expected = ['{"token": "안녕 🙂"}'.encode(), b"[DONE]"]

        for cut in range(len(raw) + 1):
            assert in_pieces(raw, [cut]) == expected

    def test_byte_by_byte(self) -> None:
        raw = "data: 안녕\r\ndata: two\n\n".encode()

        assert in_pieces(raw, list(range(len(raw)))) == ["안녕\ntwo".encode()]

    def test_an_unfinished_event_is_dropped(self) -> None:
        assert EventFraming().feed(b"data: half\n") == []

    def test_a_line_without_an_end_is_refused_in_time(self) -> None:
        framing = EventFraming()
        for _ in range(MAX_LINE // 1024):
            framing.feed(b"x" * 1024)

        with pytest.raises(NodeBroken):
            framing.feed(b"x")

    def test_an_event_of_too_many_lines_is_refused(self) -> None:
        with pytest.raises(NodeBroken):
            EventFraming().feed(b"data: 1234567\n" * (MAX_LINE // 8 + 1))

    def test_a_long_line_that_fits_passes(self) -> None:
        payload = b"x" * (MAX_LINE - 10)

        assert in_pieces(b"data: " + payload + b"\n\n", list(range(0, MAX_LINE, 7000))) == [payload]
