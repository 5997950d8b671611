"""How paths are matched: as the former service's router did, in any letter case."""

from __future__ import annotations

from typing import Any

from sanic.exceptions import NotFound
from sanic.router import Router

READ = ("GET", "HEAD")


class AnyCaseRouter(Router):
    """
    Tries a path as it stands, then in lower case.

    What a path carries as a value (an address, a model's id) is compared in any letter case by its handler.
    """

    def get(self, path: str, method: str, host: str | None) -> Any:
        try:
            return super().get(path, method, host)
        except NotFound:
            lowered = path.lower()
            if lowered == path:
                raise
            return super().get(lowered, method, host)
