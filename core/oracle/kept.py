"""What stays on the list of nodes when the Oracle stops naming it: pure rules against a wrong or hostile list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import msgspec

from core.nodes.sources import Listing, merged

MOST = 1_000  # nodes
POLLS = 2  # in a row that a node has to be missing from
POLLS_OF_MANY = 3  # the same when more than half of the nodes are to go: once more, as a confirmation
POLLS_OF_ALL = 20  # the same when no node at all is listed: an Oracle whose database is away says that


class Kept(msgspec.Struct, frozen=True):
    """A node of the list."""

    listing: Listing
    missed: int = 0  # complete polls in a row that did not name it


def settled(kept: Sequence[Kept], polled: Sequence[Listing], *, complete: bool) -> list[Kept]:
    """
    The list after a poll; nodes are told apart by their wallets.

    What is on the list goes before what is new, so that a flood of nodes drives nobody out. A poll that is not
    complete (one of its questions had no answer) adds and changes nodes, but is no reason to drop one.
    """
    named = {listing.address: listing for listing in polled}
    after = [_after(one, named.get(one.listing.address), complete=complete) for one in kept]
    polls = _patience(after, polled)
    old = [one for one in after if one.missed < polls]
    known = {one.listing.address for one in kept}
    new = [Kept(listing) for listing in polled if listing.address not in known]
    return (old + new)[:MOST]


def _after(kept: Kept, listing: Listing | None, *, complete: bool) -> Kept:
    if listing is None:
        return Kept(kept.listing, kept.missed + 1) if complete else kept
    (known,) = merged([listing, replace(kept.listing, url=listing.url)])  # what it said before stands in for gaps
    return Kept(known)


def _patience(after: Sequence[Kept], polled: Sequence[Listing]) -> int:
    if not polled:
        return POLLS_OF_ALL
    going = sum(one.missed >= POLLS for one in after)
    return POLLS if going * 2 <= len(after) else POLLS_OF_MANY
