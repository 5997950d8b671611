"""The id of the request that is being answered, for whoever writes a log line on its way."""

from __future__ import annotations

from contextvars import ContextVar

request_id: ContextVar[str] = ContextVar("request_id", default="")
