"""The shape of the log: one line an event on stdout, as text or JSON, with the request's id and without secrets."""

from __future__ import annotations

import io
import json
import logging
import re
import sys
from contextvars import ContextVar
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, TextIO

from conf.settings import Settings

MASK = "***"
# What a secret looks like wherever it turns up; \1 is what stays readable.
SECRETS = (
    (re.compile(r"(\bBearer\s+)[^\s\"',;]+", re.IGNORECASE), r"\1" + MASK),
    (re.compile(r"()\beyJ[\w-]+\.[\w-]+\.[\w-]*"), MASK),  # a JSON Web Token
    (re.compile(r"()\b0x[0-9a-fA-F]{64}(?![0-9a-fA-F])"), MASK),  # a private key
    (re.compile(r"()\bsk-[\w-]{8,}"), MASK),  # an OpenAI-style key
    (re.compile(r"(://)[^/\s@\"']*@"), r"\1" + MASK + "@"),  # user and password of a URL
    (
        re.compile(
            r"((?:api[_-]?key|secret|password|private[_-]?key|token)[\"']?\s*[=:]\s*[\"']?)[^\s\"',;&}]+", re.IGNORECASE
        ),
        r"\1" + MASK,
    ),
)
WORTH_MASKING = 8  # a shorter value would blot out ordinary words
# What ends a line, moves a terminal's cursor or turns the direction of what follows: it would forge lines.
CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def log_config(settings: Settings) -> dict[str, Any]:
    """For logging.config.dictConfig; the same in every process."""
    own = "conf.log_config"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"request": {"()": f"{own}.RequestIds", "source": "ext://core.request_id.request_id"}},
        "formatters": {
            "text": {"()": f"{own}.TextLines", "secrets": known_secrets(settings)},
            "json": {"()": f"{own}.JsonLines", "secrets": known_secrets(settings)},
        },
        "handlers": {
            "stdout": {
                "class": f"{own}.Stdout",
                "formatter": settings.log_format,
                "filters": ["request"],
            }
        },
        "root": {"level": settings.log_level.upper(), "handlers": ["stdout"]},
        # Sanic tells of each of its steps; what it has to say to an operator is a warning or more.
        "loggers": {name: {"level": "WARNING"} for name in ("sanic", "asyncio", "aiohttp", "web3", "websockets")},
    }


def known_secrets(settings: Settings) -> tuple[str, ...]:
    """The values of the secret settings, as far as they were set and are long enough to be told from words."""
    values = {
        str(getattr(settings, item.name))
        for item in fields(Settings)
        if not item.repr and getattr(settings, item.name) not in (None, item.metadata["variable"].default)
    }
    return tuple(sorted((value for value in values if len(value) >= WORTH_MASKING), key=len, reverse=True))


class Stdout(logging.StreamHandler[TextIO]):
    """Writes what the encoding of stdout lacks, as lone surrogates, as an escape: no line fails."""

    def __init__(self) -> None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        super().__init__(sys.stdout)


class RequestIds(logging.Filter):
    """Gives each record the id of the request that it was written for; empty outside of one."""

    def __init__(self, source: ContextVar[str]) -> None:
        super().__init__()
        self._source = source

    def filter(self, record: logging.LogRecord) -> bool:
        record.__dict__["request_id"] = self._source.get()
        return True


class _Masking(logging.Formatter):
    """Masks messages with their arguments, and the texts of exceptions."""

    def __init__(self, secrets: tuple[str, ...] = ()) -> None:
        super().__init__()
        self._secrets = secrets

    def masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        for pattern, shown in SECRETS:
            text = pattern.sub(shown, text)
        return text


class TextLines(_Masking):
    """
    `2026-01-31T12:00:00.123Z INFO  core.nodes.router [id] message`; an exception follows on lines of its own.

    A message is one line, whatever strangers have put into it.
    """

    def format(self, record: logging.LogRecord) -> str:
        about = f" [{known}]" if (known := getattr(record, "request_id", "")) else ""
        message = CONTROLS.sub(_escaped, self.masked(record.getMessage()))
        trace = f"\n{self.masked(self.formatException(record.exc_info))}" if record.exc_info else ""
        return f"{_time(record)} {record.levelname:<7} {record.name}{about} {message}{trace}"


class JsonLines(_Masking):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": getattr(record, "request_id", "") or None,
            "message": self.masked(record.getMessage()),
            "exception": self.masked(self.formatException(record.exc_info)) if record.exc_info else None,
        }
        return json.dumps({key: value for key, value in line.items() if value is not None}, ensure_ascii=False)


def _escaped(control: re.Match[str]) -> str:
    return control[0].encode("unicode_escape").decode()


def _time(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
