"""How one environment variable is read: the parsers, and the words that say what is wrong with a value."""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, parse_qsl, urlsplit

KEYS_END = 0xFFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFE_BAAEDCE6_AF48A03B_BFD25E8C_D0364141  # the order of secp256k1
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
VERIFY_FLAG = f"(?:{'|'.join(ssl.VerifyFlags.__members__)})"
# What a URL of Redis may say behind its `?`, and the form of each. How long to wait is the gateway's own affair.
REDIS_OPTIONS = {"db": "[0-9]+", "username": ".+", "password": ".+"}
TLS_OPTIONS = {
    "ssl_cert_reqs": "none|optional|required",
    "ssl_check_hostname": "(?i:true|false|yes|no|1|0)",
    "ssl_min_version": "771|772",  # the numbers of TLS 1.2 and 1.3, as redis-py takes them
    "ssl_include_verify_flags": f"{VERIFY_FLAG}(,{VERIFY_FLAG})*",
    "ssl_exclude_verify_flags": f"{VERIFY_FLAG}(,{VERIFY_FLAG})*",
    **dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data", "ssl_certfile", "ssl_keyfile"), "(?s:.+)"),
    **dict.fromkeys(("ssl_password", "ssl_ciphers"), ".+"),
}
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


@dataclass(frozen=True)
class Variable:
    """One variable of the environment; `default` is its text in `.env` form, None when it has none."""

    name: str
    parse: Callable[[str], Any]
    default: str | None
    example: str
    required: bool = False


def variable(
    name: str,
    parse: Callable[[str], Any],
    default: str | None = None,
    *,
    example: str = "",
    secret: bool = False,
    required: bool = False,
) -> Any:
    """A dataclass field that is read from the variable `name`; a secret one never shows in a repr."""
    about = Variable(name, parse, default, example or default or "", required)
    return field(metadata={"variable": about}, repr=not secret)


def text(value: str) -> str:
    """The value as it stands."""
    return value


def path(value: str) -> Path:
    """A file or folder; `~` is the home folder."""
    return Path(value).expanduser()


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """A whole number within bounds."""

    def parse(value: str) -> int:
        number = int(value) if re.fullmatch(r"\d+", value) else None
        if number is None or number < minimum or (maximum is not None and number > maximum):
            bounds = f"from {minimum} to {maximum}" if maximum is not None else f"of {minimum} or more"
            raise ValueError(f"must be a whole number {bounds}")
        return number

    return parse


def duration(value: str) -> int:
    """Seconds, from `3600`, `60s`, `5m`, `24h` or `7d`."""
    match = re.fullmatch(r"(\d+)\s*([smhd]?)", value)
    if match is None or int(match[1]) == 0:
        raise ValueError("must be a duration above zero, in s, m, h or d")
    return int(match[1]) * SECONDS[match[2]]


def size(value: str) -> int:
    """Bytes, from `1048576`, `512KiB` or `1MiB`."""
    match = re.fullmatch(r"(\d+)\s*(|KiB|MiB)", value)
    if match is None or int(match[1]) == 0:
        raise ValueError("must be a size above zero, in bytes, KiB or MiB")
    return int(match[1]) * {"": 1, "KiB": 1024, "MiB": 1024 * 1024}[match[2]]


def boolean(value: str) -> bool:
    """true or false, in the usual spellings."""
    word = value.lower()
    if word not in TRUE | FALSE:
        raise ValueError("must be true or false")
    return word in TRUE


def choice(*words: str) -> Callable[[str], str]:
    """One of a few words, in any letter case."""

    def parse(value: str) -> str:
        if value.lower() not in words:
            raise ValueError(f"must be one of {', '.join(words)}")
        return value.lower()

    return parse


def url(*schemes: str) -> Callable[[str], str]:
    """A URL of one of the schemes, without its trailing slash."""

    def parse(value: str) -> str:
        try:
            parts = urlsplit(value)
            valid = parts.scheme in schemes and bool(parts.netloc or parts.scheme == "unix")
            valid = valid and (parts.port is None or parts.port > 0) and not re.search(r"\s", value)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"must be a URL that starts with {' or '.join(s + '://' for s in schemes)}")
        return value.rstrip("/")

    return parse


def redis_url(value: str) -> str:
    """
    A URL of Redis that says nothing that would be overheard; no part of it appears in the complaint.

    redis-py takes a database that is no number for 0, and fails at its first connection over an option that it does
    not know.
    """
    value = url("redis", "rediss", "unix")(value)
    parts = urlsplit(value)
    if parts.scheme == "unix":
        if parts.hostname or not parts.path:
            raise ValueError("must be a URL with the path of a socket after unix://, and no host")
    elif parts.fragment or not re.fullmatch("/?|/[0-9]+", parts.path):
        raise ValueError("must be a URL with nothing behind the host but the number of a database")
    _check_host(parts)
    _check_redis_options(parts)
    return value


def _check_host(parts: SplitResult) -> None:
    try:
        (parts.hostname or "").encode("idna")
    except UnicodeError:  # whose text has the name
        raise ValueError("must be a URL with a valid host") from None


def _check_redis_options(parts: SplitResult) -> None:
    known = REDIS_OPTIONS | (TLS_OPTIONS if parts.scheme == "rediss" else {})
    for name, given in parse_qsl(parts.query, keep_blank_values=True):
        if name not in known:  # and may be the rest of a password with a `?` in it
            raise ValueError(f"must be a URL with no option but {', '.join(known)}")
        if not re.fullmatch(known[name], given):
            raise ValueError(f"must be a URL with a valid {name}")


def many(parse_one: Callable[[str], str]) -> Callable[[str], tuple[str, ...]]:
    """A comma-separated list; blanks around commas and doubled entries do not count."""

    def parse(value: str) -> tuple[str, ...]:
        entries = tuple(dict.fromkeys(parse_one(part.strip()) for part in value.split(",") if part.strip()))
        if not entries:
            raise ValueError("must have at least one entry")
        return entries

    return parse


def origin(value: str) -> str:
    """A browser origin: scheme, host and port, nothing behind them (RFC 6454)."""
    parts = urlsplit(url("http", "https")(value))
    if parts.path or parts.query or parts.fragment or parts.username:
        raise ValueError("must be an origin: scheme, host and port only")
    return f"{parts.scheme}://{parts.netloc}"


def address(value: str) -> str:
    """The address of a wallet or contract, in lower case."""
    if not re.fullmatch(r"0[xX][0-9a-fA-F]{40}", value):
        raise ValueError("must be an address: 0x and 40 hex digits")
    return value.lower()


def secret_of(minimum_bytes: int) -> Callable[[str], str]:
    """A secret of at least so many bytes; the value never appears in the complaint."""

    def parse(value: str) -> str:
        if len(value.encode()) < minimum_bytes:
            raise ValueError(f"must be at least {minimum_bytes} bytes long, it has {len(value.encode())}")
        return value

    return parse


def hex_key(value: str) -> str:
    """A secp256k1 private key as 0x and 64 hex digits; the value never appears in the complaint."""
    if not re.fullmatch(r"(0x)?[0-9a-fA-F]{64}", value):
        raise ValueError("must be a private key of 64 hex digits")
    if not 0 < int(value, 16) < KEYS_END:
        raise ValueError("must be a private key of secp256k1: above zero and below the curve's order")
    return "0x" + value.removeprefix("0x").lower()
