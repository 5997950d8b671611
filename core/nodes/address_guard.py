"""Where nodes may be: the operator's anywhere, others on the public internet, whatever their names resolve to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import ip_address

from core.nodes.node_url import NodeUrl, parse
from core.nodes.public_addresses import is_public

Resolve = Callable[[str, int], Awaitable[list[str]]]  # (name, port) → IP addresses

WEB_PORTS = (80, 443)
# Services that listen above the privileged ports, and do harm when somebody speaks HTTP to them.
SERVICE_PORTS = frozenset(
    (
        *(1433, 1521, 2049, 2181, 2375, 2376, 2379, 2380, 3306, 3389, 4369, 5432, 5672, 5984, 5985, 5986, 6000, 6379),
        *(6443, 8086, 8500, 9042, 9092, 9200, 9300, 10250, 10255, 11211, 15672, 26379, 27017, 27018, 27019, 50070),
    )
)
LOCAL_NAMES = (".localhost", ".local", ".localdomain", ".internal", ".lan", ".home.arpa", ".onion")


class RefusedAddress(Exception):
    """A node may not be there, in a few words that repeat none of it."""


class AddressGuard:
    """
    Decides on every connection to a node.

    `trusted` are the nodes that the operator names: they may be anywhere, and only they are told the secret. All
    others must be at public addresses and harmless ports; `allow_private` lets them be at any address.
    """

    def __init__(
        self, trusted: Iterable[str] = (), *, allow_private: bool = False, resolve: Resolve | None = None
    ) -> None:
        self._trusted = frozenset(str(parse(url)) for url in trusted)
        self._allow_private = allow_private
        self._resolve = resolve or system_resolve

    def trusts(self, url: str) -> bool:
        """Whether the operator named this node; the URL is in its normal form."""
        return url in self._trusted

    def check(self, url: NodeUrl) -> None:
        """Raises RefusedAddress for a URL of others that can be told to be wrong without asking the DNS."""
        if url.has_user:
            raise RefusedAddress("its URL has credentials")
        self._check([url.host] if _is_ip(url.host) else [], url.port)
        if not (self._allow_private or _is_ip(url.host)) and _is_local(url.host):
            raise RefusedAddress("its name is a local one")

    async def addresses(self, host: str, port: int, *, trusted: bool) -> list[str]:
        """
        The IP addresses to connect to, and no other, for one connection: the next answer of the DNS may differ.

        One forbidden address among several refuses all of them. Raises RefusedAddress, OSError (no such name).
        """
        found = [host] if _is_ip(host) else await self._resolve(host, port)
        if not trusted:
            self._check(found, port)
        if not found:
            raise RefusedAddress("its name has no address")
        return found

    def permits(self, address: str, port: int) -> bool:
        """Whether a node that is not trusted may be at this IP address and port."""
        return _is_a_nodes_port(port) and (self._allow_private or is_public(address))

    def _check(self, found: list[str], port: int) -> None:
        if not _is_a_nodes_port(port):
            raise RefusedAddress("its port is not one of a node")
        if not all(self.permits(address, port) for address in found):
            raise RefusedAddress("its address is not public")


async def system_resolve(host: str, port: int) -> list[str]:
    """The addresses of a name as the machine knows them. Raises OSError."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(info[4][0]) for info in infos))


def _is_a_nodes_port(port: int) -> bool:
    return port in WEB_PORTS or (port >= 1024 and port not in SERVICE_PORTS)


def _is_local(name: str) -> bool:
    return "." not in name or name.endswith(LOCAL_NAMES)


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
