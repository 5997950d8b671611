"""Where nodes come from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True, slots=True)
class Listing:
    """A node that somebody names; how it is, and what it serves, it tells itself."""

    url: str  # http(s)://host:port, no trailing slash, no credentials
    address: str = ""  # its owner's lower-case wallet; "" when the source does not know


class NodeSource(Protocol):
    """Names nodes. It never raises: one that can't be asked repeats what it said last."""

    async def listed(self) -> list[Listing]:
        """All nodes that it knows now."""
        ...


class StaticNodes:
    """The nodes of NODE_URLS and PETALS_API_URL. The operator's word is enough: private addresses are welcome."""

    def __init__(self, urls: Iterable[str]) -> None:
        self._listings = merged([Listing(normal(url)) for url in urls])

    async def listed(self) -> list[Listing]:
        """Always the same ones."""
        return self._listings


def normal(url: str) -> str:
    """
    The one spelling of a node's URL: lower-case ASCII, no default port, user, query or trailing slash.

    Credentials in a URL would end up in logs; NODE_API_SECRET is the way to send one. Raises ValueError.
    """
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    host = host.removesuffix(":443" if parts.scheme == "https" else ":80")
    if not host.isascii():
        host = host.encode("idna").decode()
    return urlunsplit((parts.scheme, host, quote(parts.path.rstrip("/"), safe="/%"), "", ""))


def merged(listings: Iterable[Listing]) -> list[Listing]:
    """Each URL once, in order, with the first address that is known for it."""
    known: dict[str, Listing] = {}
    for listing in listings:
        if listing.url not in known or not known[listing.url].address:
            known[listing.url] = listing
    return list(known.values())
