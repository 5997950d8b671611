"""What the Oracle lists, made into nodes: each row is checked by itself, and a bad one costs only itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated, Any, TypeVar

import msgspec

from core.catalog import Catalog
from core.nodes.address_guard import AddressGuard, RefusedAddress
from core.nodes.node_url import MAX_LENGTH, InvalidUrl, parse
from core.nodes.sources import Listing, merged

MOST_ROWS = 5_000  # of one answer; the rest is not looked at
WHOLE = (0, 999)  # pipelineOrder of a first stage, and of a node that holds all of its model
MOST_TOKENS_PER_S = 1e6

Wallet = Annotated[str, msgspec.Meta(pattern=r"^0x[0-9a-fA-F]{40}\Z")]
Row = TypeVar("Row", bound=msgspec.Struct)


class NodeRow(msgspec.Struct):
    """A row of GET /api/nodes; wallets that only report have no endpoint."""

    address: Wallet
    endpoint: str | None = None
    status: str = "active"
    capabilities: list[str] = []


class StageRow(msgspec.Struct, rename="camel"):
    """A row of GET /api/v1/pipeline/topology."""

    node_address: Wallet
    ready: bool
    pipeline_order: int
    http_endpoint: str | None = None
    benchmark_tok_per_sec: float | None = None


class CapacityRow(msgspec.Struct, rename="camel"):
    """A row of GET /api/v1/metrics/capacity."""

    address: Wallet
    benchmark_tok_per_sec: float | None = None


@dataclass(slots=True)
class Told:
    """All rows of one poll."""

    nodes: list[NodeRow]
    stages: list[tuple[str, StageRow]]  # with the catalogue's id of the model
    capacities: list[CapacityRow]


@dataclass(slots=True)
class Sieve:
    """Who may be a node, and for what reasons others were left out since `faults` was cleared."""

    catalog: Catalog
    guard: AddressGuard
    own_wallets: Collection[str] = ()  # lower-case: the gateway's reports put itself on the Oracle's list
    own_url: str | None = None
    faults: Counter[str] = field(default_factory=Counter)

    def rows(self, answer: Any, form: type[Row]) -> list[Row]:
        """The good rows; numbers may be strings of digits, as databases write large ones."""
        return [row for entry in islice(answer, MOST_ROWS) if (row := self._row(entry, form)) is not None]

    def url(self, wallet: str, endpoint: str) -> str | None:
        """The normal form of a node's URL; None when there may be no node."""
        try:
            url = parse(endpoint)
            self.guard.check(url)
            if len(str(url)) > MAX_LENGTH:  # a path grows ninefold when it is percent-encoded
                raise InvalidUrl("its URL is too long")
        except (InvalidUrl, RefusedAddress) as problem:
            self.faults[str(problem)] += 1
            return None
        is_own = wallet in self.own_wallets or (self.own_url is not None and _same_server(str(url), self.own_url))
        return None if is_own else str(url)

    def _row(self, entry: Any, form: type[Row]) -> Row | None:
        try:
            return msgspec.convert(entry, form, strict=False)
        except (msgspec.ValidationError, RecursionError):
            self.faults["its entry is malformed"] += 1
            return None


def listings(told: Told, sieve: Sieve) -> list[Listing]:
    """
    The nodes that can take whole requests, one for each wallet and URL, in the order of the Oracle.

    The topology knows better than the list of nodes: it names the endpoint for requests, and a wallet that is only a
    later stage, or not ready, is no node although it is listed.
    """
    speeds = {row.address.lower(): _speed(row.benchmark_tok_per_sec) for row in told.capacities}
    found: dict[str, Listing] = {}
    for model, stage in told.stages:
        if stage.ready and stage.pipeline_order in WHOLE:
            wallet, speed = stage.node_address.lower(), _speed(stage.benchmark_tok_per_sec)
            _add(found, sieve, Listing(stage.http_endpoint or "", wallet, (model,), speed or speeds.get(wallet, 0.0)))
    staged = {stage.node_address.lower() for _, stage in told.stages}
    for row in told.nodes:
        wallet = row.address.lower()
        if row.status == "active" and (wallet not in staged or wallet in found):
            _add(
                found, sieve, Listing(row.endpoint or "", wallet, _models(row, sieve.catalog), speeds.get(wallet, 0.0))
            )
    return merged(found.values())


def _add(found: dict[str, Listing], sieve: Sieve, listing: Listing) -> None:
    """Adds a node, or what is new about a known one: its models."""
    known = found.get(listing.address)
    url = known.url if known is not None else listing.url and sieve.url(listing.address, listing.url)
    if url:
        models = dict.fromkeys((*(known.models if known is not None else ()), *listing.models))
        speed = known.tokens_per_s if known is not None else listing.tokens_per_s
        found[listing.address] = Listing(url, listing.address, tuple(models), speed)


def _models(row: NodeRow, catalog: Catalog) -> tuple[str, ...]:
    return tuple(model.id for name in row.capabilities if (model := catalog.named(name)) is not None)


def _speed(tokens_per_s: float | None) -> float:
    """A benchmark is the node's own word: anything odd is as good as nothing."""
    if tokens_per_s is None or not math.isfinite(tokens_per_s):
        return 0.0
    return min(max(tokens_per_s, 0.0), MOST_TOKENS_PER_S)


def _same_server(url: str, own_url: str) -> bool:
    try:
        one, other = parse(url), parse(own_url)
    except InvalidUrl:
        return False
    return (one.host, one.port) == (other.host, other.port)
