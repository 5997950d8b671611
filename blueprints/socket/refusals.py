"""Refusals in Engine.IO's own shape, as Node's server words them: its clients look at the status only."""

from __future__ import annotations

from sanic import HTTPResponse
from sanic.response import json


def unknown_session() -> HTTPResponse:
    """The session is not, or no longer, there: the client starts a new one."""
    return json({"code": 1, "message": "Session ID unknown"}, 400)


def bad_request() -> HTTPResponse:
    """Nothing can be done with this request."""
    return json({"code": 3, "message": "Bad request"}, 400)


def forbidden() -> HTTPResponse:
    """A page of another origin may not connect."""
    return json({"code": 4, "message": "Forbidden"}, 403)
