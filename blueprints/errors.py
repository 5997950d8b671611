"""Errors as answers: OpenAI's shape under /v1, the former service's everywhere else; never a stack trace."""

from __future__ import annotations

import logging
from typing import Any

import msgspec
from sanic import HTTPResponse, Request, Sanic
from sanic.exceptions import (
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RequestTimeout,
    SanicException,
    ServiceUnavailable,
)

from blueprints.replies import JSON, Reply
from core.errors import GatewayError, Unavailable

log = logging.getLogger(__name__)
_encode = msgspec.json.encode
OPENAI_PREFIX = "/v1"
OPENAI_TYPES = {401: "invalid_request_error", 402: "insufficient_quota", 403: "permission_error", 429: "requests"}


def register_errors(app: Sanic) -> None:
    """Makes every exception an answer in the door's own shape."""
    app.error_handler.add(GatewayError, _gateway_error)
    app.error_handler.add(SanicException, _sanic_error)
    app.error_handler.add(Exception, _unexpected)


def is_openai(path: str) -> bool:
    """Whether this path's clients expect OpenAI's shapes."""
    return path[:4].lower() in (OPENAI_PREFIX, OPENAI_PREFIX + "/")


def openai_error(error: GatewayError) -> dict[str, Any]:
    """OpenAI's error object."""
    status = error.openai_status or error.status
    kind = OPENAI_TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    body: dict[str, Any] = {"message": error.text, "type": kind, "param": error.param, "code": error.code}
    if error.details is not None:
        body["details"] = error.details
    return {"error": body}


def native_error(error: GatewayError) -> dict[str, Any]:
    """The former service's error body."""
    reason = {} if error.reason is None else {"error": error.reason}
    details = {} if error.details is None else {"details": error.details}
    return {"message": error.message, **reason, "statusCode": error.status, **details}


def answer(request: Request, error: GatewayError) -> HTTPResponse:
    """The error as a response of the door through which the request came."""
    if is_openai(request.path):
        return Reply(_encode(openai_error(error)), error.openai_status or error.status, error.headers, JSON)
    return Reply(_encode(native_error(error)), error.status, error.headers, JSON)


class _Refused(GatewayError):
    """What the web server itself refuses."""

    def __init__(self, status: int, message: str, reason: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.reason, self.code = status, reason, code


def _gateway_error(request: Request, error: GatewayError) -> HTTPResponse:
    if isinstance(error, Unavailable):
        log.warning("%s %s: %s", request.method, request.path, error.text)
    return answer(request, error)


def _sanic_error(request: Request, error: SanicException) -> HTTPResponse:
    # A wrong method is a 404 too: the former service's router knew no 405.
    if isinstance(error, NotFound | MethodNotAllowed):
        return answer(request, _Refused(404, f"Cannot {request.method} {request.path}", "Not Found", "not_found"))
    if isinstance(error, PayloadTooLarge):
        return answer(request, _Refused(413, "request entity too large", code="request_too_large"))
    if isinstance(error, RequestTimeout):
        return answer(request, _Refused(408, "The request did not arrive in time", "Request Timeout", "timeout"))
    if error.status_code < 500:
        return answer(request, _Refused(error.status_code, "The request is malformed", "Bad Request", "bad_request"))
    if isinstance(error, ServiceUnavailable):
        return answer(request, Unavailable("The answer took too long. Please try again."))
    return _unexpected(request, error)


def _unexpected(request: Request, error: Exception) -> HTTPResponse:
    log.error("%s %s failed", request.method, request.path, exc_info=error)
    return answer(request, _Refused(500, "Internal server error", code="internal_error"))
