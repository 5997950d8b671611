"""How paths are matched: as the former service's router did, in any letter case."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from sanic.exceptions import NotFound
from sanic.models.handler_types import RouteHandler
from sanic.router import Router
from sanic_routing.route import Route

READ = ("GET", "HEAD")
# Raw or %2F, a model's id has slashes; it must not be empty, or a list's own trailing slash would be taken for one.
MODEL_ID = "/<model_id:[^/].*>"


class AnyCaseRouter(Router):
    """
    Tries a path as it stands, then in lower case.

    What a path carries as a value (an address, a model's id) is compared in any letter case by its handler.
    """

    def _get(self, path: str, method: str, host: str | None) -> tuple[Route, RouteHandler, dict[str, Any]]:
        try:
            return super()._get(path, method, host)
        except NotFound:
            lowered = path.lower()
            if lowered == path:
                raise
            return super()._get(lowered, method, host)


def decoded(model_id: str) -> str:
    """The id as the catalogue writes it, from a path."""
    return unquote(model_id).rstrip("/")
