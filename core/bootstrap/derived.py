"""What several services are given, as it follows from the settings."""

from __future__ import annotations

from pathlib import Path

from conf.settings import Settings
from core.catalog import Catalog
from core.nodes.address_guard import AddressGuard
from core.nodes.sources import StaticNodes

DEFAULT_MODELS = Path(__file__).parent.parent.parent / "conf" / "models.toml"
NODES = "nodes"  # METRICS_WALLETS: what was served is reported for the nodes' wallets


def read_catalog(settings: Settings) -> Catalog:
    """The catalogue that the settings name. Raises InvalidCatalog."""
    return Catalog.from_file(settings.models_file or DEFAULT_MODELS)


def required_redis_url(settings: Settings) -> str:
    """Where Redis is; a process that was started by hand without REDIS_URL has none."""
    if settings.redis_url is None:
        raise RuntimeError("REDIS_URL is not set and this process does not embed a Redis")
    return settings.redis_url


def static_nodes(settings: Settings) -> StaticNodes:
    """The operator's own nodes."""
    return StaticNodes((*settings.node_urls, *filter(None, [settings.petals_api_url])))


def address_guard(settings: Settings) -> AddressGuard:
    """Which addresses nodes may have: the operator's any, others public ones."""
    return AddressGuard(static_nodes(settings).urls, allow_private=settings.allow_private_nodes)
