"""What every part of a web worker stands on."""

from __future__ import annotations

from dataclasses import dataclass

from conf.settings import Settings
from core.bus import Bus
from core.catalog import Catalog
from core.clock import Clock
from core.draining import Drain
from core.store import Store


@dataclass(frozen=True, slots=True)
class World:
    """Open when the parts are opened, and until they are closed."""

    settings: Settings
    worker_id: str
    store: Store
    bus: Bus
    clock: Clock
    catalog: Catalog
    drain: Drain
