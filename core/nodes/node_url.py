"""The one reader of node URLs: whatever spelling comes in, one normal form or a refusal goes out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urlsplit

PORTS = {"http": 80, "https": 443}
MAX_LENGTH = 512
BLANK = re.compile(r"[\x00-\x20\x7f-\xa0\\\s]")  # what parsers strip, skip or take for a slash: each its own way
AUTHORITY = re.compile(
    r"(?P<user>.*@)?(?:\[(?P<bracketed>[^\[\]@]*)\]|(?P<name>[^\[\]:@]+))(?::(?P<port>[0-9]{0,5}))?", re.ASCII
)
NAME = re.compile(r"(?!.{254})[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*", re.ASCII)
NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)


class InvalidUrl(ValueError):
    """It is no URL that a node can have, in a few words that repeat none of it."""


@dataclass(frozen=True, slots=True)
class NodeUrl:
    """A node's URL in its parts; as a string it is the normal form."""

    scheme: str  # http or https
    host: str  # a lower-case ASCII name, or an IP address in its shortest form, without brackets
    port: int
    path: str  # percent-encoded, without a trailing slash
    has_user: bool = False  # credentials were given; they are dropped, since they would end up in logs

    @property
    def authority(self) -> str:
        """The value of a Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse(text: str) -> NodeUrl:
    """
    Reads a URL (RFC 3986); its query and fragment are dropped, since a node's paths are put behind it.

    A host becomes what a connection would make of it: IDNA names ASCII, the decimal, octal, hexadecimal and short
    forms of IPv4 (as the WHATWG URL Standard reads them) and IPv4-mapped IPv6 dotted quads. Raises InvalidUrl.
    """
    if len(text) > MAX_LENGTH or BLANK.search(text):
        raise InvalidUrl("its URL is too long or has blanks")
    try:
        parts = urlsplit(text)
        path = quote(parts.path.rstrip("/"), safe="/%")
    except ValueError:
        raise InvalidUrl("its URL can't be read") from None
    if parts.scheme not in PORTS:
        raise InvalidUrl("its URL is neither http nor https")
    authority = AUTHORITY.fullmatch(parts.netloc)
    if authority is None:
        raise InvalidUrl("its URL has no proper host")
    bracketed, name = authority["bracketed"], authority["name"]
    host = _named(name) if bracketed is None else _ipv6(bracketed)
    return NodeUrl(parts.scheme, host, _port(authority["port"], parts.scheme), path, has_user=bool(authority["user"]))


def _port(digits: str | None, scheme: str) -> int:
    port = int(digits) if digits else PORTS[scheme]
    if not 0 < port < 65536:
        raise InvalidUrl("its URL has no proper port")
    return port


def _named(host: str) -> str:
    try:
        name = host.encode("idna").decode().lower().removesuffix(".")
    except UnicodeError:
        name = ""
    if not NAME.fullmatch(name):
        raise InvalidUrl("its URL has no proper host")
    return _ipv4(name) if NUMBER.fullmatch(name.rpartition(".")[2]) else name


def _ipv4(name: str) -> str:
    """The dotted quad of up to four numbers, the last of which fills all bytes that are left."""
    numbers = [_number(part) for part in name.split(".")]
    *first, last = numbers
    if len(numbers) > 4 or any(number > 255 for number in first) or last >= 256 ** (5 - len(numbers)):
        raise InvalidUrl("its host is no IPv4 address")
    value = last + sum(number << (24 - 8 * place) for place, number in enumerate(first))
    return str(IPv4Address(value))


def _number(part: str) -> int:
    if not NUMBER.fullmatch(part):
        raise InvalidUrl("its host is no IPv4 address")
    if part.startswith("0x"):
        return int(part[2:] or "0", 16)
    try:
        return int(part, 8 if part.startswith("0") else 10)
    except ValueError:
        raise InvalidUrl("its host is no IPv4 address") from None


def _ipv6(text: str) -> str:
    try:
        address = IPv6Address(text)
    except ValueError:
        raise InvalidUrl("its host is no IPv6 address") from None
    if address.scope_id is not None:
        raise InvalidUrl("its host is no IPv6 address")
    return str(address.ipv4_mapped or address)
