"""The HTTP sessions of the probes: connections are guarded as those of requests are."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import AddrInfoType

from core.nodes.address_guard import AddressGuard, RefusedAddress


@dataclass(frozen=True, slots=True)
class ProbeSessions:
    """One session for the nodes that the operator names, one for all others."""

    guard: AddressGuard
    trusted: aiohttp.ClientSession
    others: aiohttp.ClientSession

    def session_for(self, url: str) -> aiohttp.ClientSession:
        """The session for a node's URL in its normal form."""
        return self.trusted if self.guard.trusts(url) else self.others


@asynccontextmanager
async def open_probe_sessions(guard: AddressGuard, secret: str | None) -> AsyncIterator[ProbeSessions]:
    """Opens both; `secret` goes to trusted nodes only, as a bearer token."""
    authorization = {"Authorization": f"Bearer {secret}"} if secret else {}
    guarded = aiohttp.TCPConnector(
        limit=0,
        force_close=True,
        use_dns_cache=False,
        resolver=_GuardedResolver(guard),
        socket_factory=_Sockets(guard),
    )
    async with AsyncExitStack() as stack:
        trusted = _session(aiohttp.TCPConnector(limit=0, force_close=True), authorization)
        others = _session(guarded, {})
        await stack.enter_async_context(trusted)
        await stack.enter_async_context(others)
        yield ProbeSessions(guard, trusted, others)


def _session(connector: aiohttp.TCPConnector, headers: dict[str, str]) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=connector,
        headers={"Accept-Encoding": "identity", "User-Agent": "plumise-inference-api", **headers},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


class _GuardedResolver(AbstractResolver):
    """Names resolve as the guard says; each connection asks anew."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            addresses = await self._guard.addresses(host, port, trusted=False)
        except RefusedAddress as problem:
            raise OSError(str(problem)) from problem
        return [_resolved(host, port, address) for address in addresses]

    async def close(self) -> None:
        """There is nothing to close."""


@dataclass(frozen=True, slots=True)
class _Sockets:
    """The last gate: also addresses that stand in a URL, which aiohttp does not resolve, come by here."""

    guard: AddressGuard

    def __call__(self, info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        if not self.guard.permits(address[0], address[1]):
            raise OSError("its address is not one of a node")
        return socket.socket(family, kind, protocol)


def _resolved(host: str, port: int, address: str) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=socket.IPPROTO_TCP, flags=socket.AI_NUMERICHOST
    )
