"""What the attempts ask of a transport, and which transport a node's URL leads to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from core.nodes.transport.exchange import Take
from core.nodes.transport.origin import Request


class NodeExchange(Protocol):
    """A node's answer that has begun; see Exchange for what its methods raise. Times are the event loop's."""

    @property
    def status(self) -> int:
        """As of HTTP."""
        ...

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """By lower-case names."""
        ...

    async def flow(self, take: Take, until: float) -> None:
        """Gives `take` the body as it comes; returns when that wants no more just now, or at the body's end."""
        ...

    def extend(self, until: float) -> None:
        """Gives the rest of what flows until then."""
        ...

    async def read(self, limit: int, until: float) -> bytes:
        """The whole body."""
        ...

    def release(self) -> None:
        """Its text has been read."""
        ...

    def abort(self) -> None:
        """Ends the node's work."""
        ...


class NodeTransport(Protocol):
    """A way to nodes."""

    async def post(self, url: str, request: Request, until: float) -> NodeExchange:
        """Sends the request; its answer once that has begun. Raises NodeFailure."""
        ...

    def give_up(self, url: str) -> None:
        """The node at `url` is known to be gone: whoever waits for its answer to begin need not go on."""
        ...


class TransportByScheme:
    """Hands each node to the transport of its URL's scheme, and all others to a usual one."""

    def __init__(self, usual: NodeTransport, others: Mapping[str, NodeTransport]) -> None:
        self._usual = usual
        self._others = others

    async def post(self, url: str, request: Request, until: float) -> NodeExchange:
        return await self._for(url).post(url, request, until)

    def give_up(self, url: str) -> None:
        self._for(url).give_up(url)

    def _for(self, url: str) -> NodeTransport:
        return self._others.get(url.partition("://")[0], self._usual)
