"""What stays on the list of nodes: the rules alone."""

from __future__ import annotations

from core.nodes.sources import Listing
from core.oracle.kept import MOST, POLLS_OF_ALL, Kept, settled


def named(*numbers: int) -> list[Listing]:
    return [Listing(f"http://node-{number}", f"0x{number:040x}") for number in numbers]


def after(kept: list[Kept], *polls: list[Listing], complete: bool = True) -> list[str]:
    """The URLs on the list after some polls."""
    for polled in polls:
        kept = settled(kept, polled, complete=complete)
    return [one.listing.url.removeprefix("http://node-") for one in kept]


TEN = [Kept(listing) for listing in named(*range(10))]


class TestRemoval:
    def test_a_node_goes_when_two_polls_in_a_row_do_not_name_it(self) -> None:
        rest = named(*range(9))

        assert "9" in after(TEN, rest)
        assert "9" not in after(TEN, rest, rest)

    def test_one_poll_that_names_it_again_makes_it_stay(self) -> None:
        rest = named(*range(9))

        assert "9" in after(TEN, rest, named(*range(10)), rest)

    def test_half_of_the_nodes_may_go_at_once(self) -> None:
        half = named(*range(5))

        assert after(TEN, half, half) == list("01234")

    def test_more_than_half_have_to_be_missed_once_more(self) -> None:
        few = named(*range(4))

        assert len(after(TEN, few, few)) == 10
        assert after(TEN, few, few, few) == list("0123")

    def test_an_empty_list_is_long_not_believed(self) -> None:
        assert len(after(TEN, *[[]] * (POLLS_OF_ALL - 1))) == 10
        assert after(TEN, *[[]] * POLLS_OF_ALL) == []

    def test_a_poll_with_gaps_drops_nobody(self) -> None:
        assert len(after(TEN, *[named(1)] * 50, complete=False)) == 10
        assert len(after(TEN, *[[]] * 50, complete=False)) == 10


class TestArrival:
    def test_new_nodes_come_at_once_also_with_a_poll_with_gaps(self) -> None:
        assert after([], named(1, 2)) == ["1", "2"]
        assert after([], named(1, 2), complete=False) == ["1", "2"]

    def test_a_flood_drives_nobody_out(self) -> None:
        kept = after(TEN, named(*range(100, 100 + MOST), *range(10)))

        assert len(kept) == MOST
        assert kept[:10] == list("0123456789")

    def test_a_node_that_moves_is_followed_at_once(self) -> None:
        (old,) = named(1)
        moved = Listing("http://elsewhere", old.address)

        assert [one.listing for one in settled([Kept(old)], [moved], complete=True)] == [moved]

    def test_what_a_poll_does_not_tell_stays_as_it_was(self) -> None:
        told, bare = Listing("http://a", "0xaa", ("m",), 12.5), Listing("http://a", "0xaa")

        assert settled([Kept(told, missed=1)], [bare], complete=False) == [Kept(told)]
