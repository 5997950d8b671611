"""The outbox: one order for each connection, one turn's writes together, and no hiding of a slow reader."""

from __future__ import annotations

import asyncio

import pytest

from blueprints.outbox import MOST_WAITING, Outbox

pytestmark = pytest.mark.asyncio


class Wire(asyncio.WriteTransport):
    """A connection that keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Takes it."""
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        """As told."""
        return self.is_closed


async def test_what_one_turn_says_leaves_at_its_end_in_order() -> None:
    outbox, one, other = Outbox(), Wire(), Wire()
    for number in range(3):
        outbox.put(one, b"one %d" % number)
        outbox.put(other, b"other %d" % number)
    assert one.written == []

    await asyncio.sleep(0)

    assert one.written == [b"one 0", b"one 1", b"one 2"]
    assert other.written == [b"other 0", b"other 1", b"other 2"]


async def test_the_next_turn_is_sent_as_well() -> None:
    outbox, wire = Outbox(), Wire()
    for number in range(3):
        outbox.put(wire, b"%d" % number)
        await asyncio.sleep(0)
    assert wire.written == [b"0", b"1", b"2"]


async def test_what_is_flushed_is_not_sent_again() -> None:
    outbox, wire = Outbox(), Wire()
    outbox.put(wire, b"before")
    outbox.flush()
    assert wire.written == [b"before"]
    await asyncio.sleep(0)
    assert wire.written == [b"before"]


async def test_a_connection_that_closes_in_the_meantime_is_left_alone() -> None:
    outbox, closed, wire = Outbox(), Wire(), Wire()
    outbox.put(closed, b"late")
    outbox.put(wire, b"in time")
    closed.is_closed = True
    await asyncio.sleep(0)
    assert closed.written == []
    assert wire.written == [b"in time"]


async def test_much_of_one_turn_does_not_wait_for_its_end() -> None:
    """A connection's own limit is what stops a node, and it only counts what was written."""
    outbox, wire = Outbox(), Wire()
    piece = b"x" * 1000
    for _ in range(MOST_WAITING // len(piece) * 3):
        outbox.put(wire, piece)
    assert sum(map(len, wire.written)) > 2 * MOST_WAITING
