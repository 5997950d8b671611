"""Where nodes come from."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from core.nodes.node_url import InvalidUrl, parse

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listing:
    """A node that somebody names; how it is, and what it serves, it tells itself."""

    url: str  # in its normal form, see node_url
    address: str = ""  # its owner's lower-case wallet; "" when the source does not know
    models: tuple[str, ...] = ()  # that it is said to serve, by the catalogue's ids: a hint
    tokens_per_s: float = 0.0  # its own benchmark: a hint; 0 when it is not known


class NodeSource(Protocol):
    """Names nodes. One that can't be asked repeats what it said last; if it can't even do that, it raises."""

    async def listed(self) -> list[Listing]:
        """All nodes that it knows now."""
        ...


class StaticNodes:
    """The nodes of NODE_URLS and PETALS_API_URL. The operator's word is enough: private addresses are welcome."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._listings = merged(listing for url in urls if (listing := _static(url)) is not None)

    @property
    def urls(self) -> list[str]:
        """Their URLs in normal form."""
        return [listing.url for listing in self._listings]

    async def listed(self) -> list[Listing]:
        """Always the same ones."""
        return self._listings


def merged(listings: Iterable[Listing]) -> list[Listing]:
    """Each URL once, in order, with the first of everything that is known about it."""
    known: dict[str, Listing] = {}
    for listing in listings:
        first = known.setdefault(listing.url, listing)
        known[listing.url] = replace(
            first,
            address=first.address or listing.address,
            models=first.models or listing.models,
            tokens_per_s=first.tokens_per_s or listing.tokens_per_s,
        )
    return list(known.values())


def _static(url: str) -> Listing | None:
    try:
        return Listing(str(parse(url)))
    except InvalidUrl as problem:
        log.warning("a node of NODE_URLS or PETALS_API_URL is left out: %s", problem)
        return None
