"""The health probes: asks every node how it is and what it is, and shares what was found."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TypeVar

import aiohttp
import msgspec

from core.catalog import Catalog
from core.clock import Clock
from core.nodes.address_guard import AddressGuard
from core.nodes.fleet import Fleet
from core.nodes.health import Report, after_bad, after_good, after_silence
from core.nodes.node import Node, NodeKind
from core.nodes.probe_sessions import open_probe_sessions
from core.nodes.sources import Listing, NodeSource, merged
from core.wallet import is_address

TIMEOUT_S = 5.0
AT_ONCE = 128  # so that many silent nodes do not keep a round from its end
MAX_BODY = 256 * 1024  # bytes; a list of models may be long

log = logging.getLogger(__name__)
Form = TypeVar("Form", bound=msgspec.Struct)


class ProbeFailed(Exception):
    """The node can't be used, in a few words. `certain`: it says so itself."""

    def __init__(self, problem: str, *, certain: bool = False) -> None:
        super().__init__(problem)
        self.certain = certain


class Layers(msgspec.Struct):
    """The part of the model that a pipeline agent holds."""

    start: int = 0


class Health(msgspec.Struct):
    """GET /health, of every kind of node."""

    status: str = ""
    model: str | None = None
    mode: str | None = None
    address: str | None = None
    layers: Layers | None = None


class Listed(msgspec.Struct):
    """One entry of a list of models."""

    id: str


class Models(msgspec.Struct):
    """GET /v1/models."""

    data: list[Listed]


class NodeProber:
    """
    Probes all nodes of all sources. One of these is at work in the whole fleet: the leader's.

    `guard` says where nodes may be; `secret` is sent to those that it trusts, as a bearer token; a node has
    `timeout_s` to answer. Raises NotLeading and StoreUnavailable as the fleet does.
    """

    def __init__(
        self,
        sources: Sequence[NodeSource],
        catalog: Catalog,
        fleet: Fleet,
        clock: Clock,
        *,
        guard: AddressGuard | None = None,
        secret: str | None = None,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        self._sources = sources
        self._catalog = catalog
        self._fleet = fleet
        self._clock = clock
        self._guard = guard or AddressGuard()
        self._secret = secret
        self._timeout_s = timeout_s
        self._probing: set[str] = set()

    async def probe_all(self) -> None:
        """One round over all nodes, and its outcome shared."""
        await self._probe(await self._listed())
        await self._fleet.share()

    async def probe_new(self) -> None:
        """Looks at nodes that were not there before; between two rounds, so that they need not wait for the next."""
        await self._probe([listing for listing in await self._listed() if self._fleet.node(listing.url) is None])

    async def _listed(self) -> list[Listing]:
        await self._fleet.recall()
        listings = merged([listing for source in self._sources for listing in await source.listed()])
        self._fleet.keep([listing.url for listing in listings])
        return listings

    async def _probe(self, listings: list[Listing]) -> None:
        due = [listing for listing in listings if listing.url not in self._probing]
        if not due:
            return
        urls, places = [listing.url for listing in due], asyncio.Semaphore(AT_ONCE)
        self._probing.update(urls)
        try:
            async with open_probe_sessions(self._guard, self._secret) as sessions:
                await asyncio.gather(
                    *(self._probe_one(listing, sessions.session_for(listing.url), places) for listing in due)
                )
        finally:
            self._probing.difference_update(urls)

    async def _probe_one(self, listing: Listing, session: aiohttp.ClientSession, places: asyncio.Semaphore) -> None:
        async with places:
            known = self._fleet.node(listing.url)
            before = known or Node(listing.url)
            told = {"address": listing.address or before.address, "benchmark_tps": listing.tokens_per_s}
            before = msgspec.structs.replace(before, **told)
            after = await self._probed(before, session)
        if known is None or after.online != known.online:
            log.info("node %s is %s", after.url, "online" if after.online else f"offline: {after.problem}")
        self._fleet.put(after)

    async def _probed(self, node: Node, session: aiohttp.ClientSession) -> Node:
        try:
            async with asyncio.timeout(self._timeout_s):
                return after_good(node, await self._report(node.url, session), self._clock.now())
        except ProbeFailed as failure:
            problem, certain = str(failure), failure.certain
        except (aiohttp.ClientError, OSError, ValueError) as failure:  # ValueError: a URL that aiohttp refuses
            problem, certain = _words(failure), False
        if not certain and self._fleet.traffic.is_answering(node.url):
            return after_silence(node, self._clock.now())  # some agents can't answer while they generate
        return after_bad(node, problem, self._clock.now(), certain=certain)

    async def _report(self, url: str, session: aiohttp.ClientSession) -> Report:
        """Tells the kind from the answers: only agents have a mode, only Petals has a model and none."""
        began = self._clock.monotonic()
        health = await self._health(url, session)
        latency_ms = round((self._clock.monotonic() - began) * 1000, 1)
        if health is None or not (health.model or health.mode):
            return await self._unnamed(url, session, latency_ms, is_ready=health is not None)
        models = self._models([health.model or ""])
        if health.mode is None:
            return Report(kind=NodeKind.PETALS, models=models, streams=False, latency_ms=latency_ms)
        if health.layers is not None and health.layers.start > 0:
            raise ProbeFailed("it serves a later part of the model only", certain=True)
        streams = health.mode != "single"
        # What is no wallet would be kept and shared for nothing, whatever its length.
        address = health.address.lower() if health.address and is_address(health.address) else ""
        return Report(kind=NodeKind.AGENT, models=models, streams=streams, address=address, latency_ms=latency_ms)

    async def _health(self, url: str, session: aiohttp.ClientSession) -> Health | None:
        """What /health says; None when there is no such page, or an empty one, as with some OpenAI-type servers."""
        status, body = await _get(session, f"{url}/health")
        if status == 404 or (status == 200 and not body.strip()):
            return None
        if status != 200:
            raise ProbeFailed(f"/health answered {status}", certain=status == 503)
        health = _decoded(body, Health)
        if health.status != "ok":
            raise ProbeFailed("it is loading" if health.status == "loading" else "it is not ready", certain=True)
        return health

    async def _unnamed(self, url: str, session: aiohttp.ClientSession, latency_ms: float, *, is_ready: bool) -> Report:
        status, body = await _get(session, f"{url}/v1/models")
        if status == 200:
            models = self._models([model.id for model in _decoded(body, Models).data])
            return Report(kind=NodeKind.OPENAI, models=models, latency_ms=latency_ms)
        if not is_ready or status != 404:
            raise ProbeFailed(f"/v1/models answered {status}")
        # It says that it is ready, names no model and is no OpenAI-type server: a node as the former service took
        # them, which sent any model's requests to any node.
        every = {model.id: model.id for model in self._catalog}
        return Report(kind=NodeKind.PETALS, models=every, streams=False, latency_ms=latency_ms)

    def _models(self, names: list[str]) -> dict[str, str]:
        models = {model.id: name for name in names if (model := self._catalog.named(name)) is not None}
        if not models:
            raise ProbeFailed("it serves no model of the catalogue", certain=True)
        return models


async def _get(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    async with session.get(url, allow_redirects=False) as answer:
        body = bytearray()
        async for part in answer.content.iter_any():
            body += part
            if len(body) > MAX_BODY:
                raise ProbeFailed("its answer is too large")
        return answer.status, bytes(body)


def _decoded(body: bytes, form: type[Form]) -> Form:
    try:
        return msgspec.json.decode(body, type=form)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as problem:
        raise ProbeFailed("its answer is not of its protocol") from problem


def _words(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "it did not answer in time"
    return "no connection" if isinstance(problem, (aiohttp.ClientConnectionError, OSError)) else "it is no HTTP server"
