"""Every setting of the gateway, read once from the environment; nothing else reads the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, Self

from dotenv.parser import Binding, parse_stream

from conf.variables import (
    Variable,
    address,
    boolean,
    choice,
    duration,
    hex_key,
    many,
    origin,
    path,
    redis_url,
    secret_of,
    size,
    text,
    url,
    variable,
    whole,
)

ROOT = Path(__file__).resolve().parent.parent
EXIT_CODE = 78  # EX_CONFIG of sysexits.h: what a process manager reads as "do not start me again like this"
HTTP = url("http", "https")
KEYS = ("PRIVATE_KEY", "GATEWAY_PRIVATE_KEY")
SOURCES = ("ORACLE_API_URL", "NODE_URLS", "PETALS_API_URL")


class InvalidSettings(Exception):
    """The environment can't be used; `problems` names each variable, what is wrong, and an example."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class Settings:
    """
    The gateway's configuration. Durations are whole seconds, sizes are bytes.

    A URL of a node source that is not set is None and that source is off: its usual address stands in
    `.env.example`, since probing a port that nobody named would only fill the log.
    """

    host: str = variable("HOST", text, "0.0.0.0", example="127.0.0.1")
    port: int = variable("PORT", whole(1, 65535), "3200")
    workers: int = variable("WEB_CONCURRENCY", whole(1, 256), "2")
    data_dir: Path = variable("PLUMISE_DATA_DIR", path, "data")
    redis_url: str | None = variable("REDIS_URL", redis_url, example="redis://localhost:6379/0", secret=True)
    log_level: str = variable("LOG_LEVEL", choice("debug", "info", "warning", "error"), "info")
    log_format: str = variable("LOG_FORMAT", choice("text", "json"), "text")

    jwt_secret: str = variable(
        "JWT_SECRET",
        secret_of(32),
        example="the output of: openssl rand -hex 32",
        secret=True,
        required=True,
    )
    jwt_secret_previous: str | None = variable(
        "JWT_SECRET_PREVIOUS", secret_of(32), example="the former JWT_SECRET", secret=True
    )
    jwt_expiration_s: int = variable("JWT_EXPIRATION", duration, "24h")
    openai_compat_api_key: str | None = variable(
        "OPENAI_COMPAT_API_KEY", secret_of(16), example="the output of: openssl rand -hex 24", secret=True
    )

    chain_rpc_url: str = variable("CHAIN_RPC_URL", HTTP, "http://localhost:26902", secret=True)
    chain_ws_url: str = variable("CHAIN_WS_URL", url("ws", "wss"), "ws://localhost:26912", secret=True)
    chain_id: int = variable("CHAIN_ID", whole(1), "41956")
    inference_payment_address: str | None = variable(
        "INFERENCE_PAYMENT_ADDRESS", address, example="0x5bfb4d6feab6e7ec09edb6044dcafd23bc8c20c5"
    )
    private_key: str | None = variable("PRIVATE_KEY", hex_key, example="0x and 64 hex digits", secret=True)
    gateway_private_key: str | None = variable(
        "GATEWAY_PRIVATE_KEY", hex_key, example="0x and 64 hex digits", secret=True
    )

    oracle_api_url: str | None = variable("ORACLE_API_URL", HTTP, example="http://localhost:15481")
    oracle_api_key: str | None = variable("ORACLE_API_KEY", text, example="a shared key", secret=True)
    node_urls: tuple[str, ...] = variable(
        "NODE_URLS", many(HTTP), example="http://10.0.0.5:31331,http://10.0.0.6:31331"
    )
    petals_api_url: str | None = variable("PETALS_API_URL", HTTP, example="http://localhost:31330")
    node_api_secret: str | None = variable("NODE_API_SECRET", text, example="the nodes' API_SECRET", secret=True)
    allow_private_nodes: bool = variable("ALLOW_PRIVATE_NODES", boolean, "false")
    models_file: Path | None = variable("MODELS_FILE", path, example="/etc/plumise/models.toml")

    relay_wallets: tuple[str, ...] | None = variable(
        "RELAY_WALLETS", many(address), example="0xe239cdc5fbe977a8a141b72194d3cf8c41bc5bc6"
    )

    node_connect_timeout_s: int = variable("NODE_CONNECT_TIMEOUT", duration, "3s")
    node_first_token_timeout_s: int = variable("NODE_FIRST_TOKEN_TIMEOUT", duration, "60s")
    node_token_timeout_s: int = variable("NODE_TOKEN_TIMEOUT", duration, "30s")
    node_total_timeout_s: int = variable("NODE_TOTAL_TIMEOUT", duration, "300s")
    node_probe_interval_s: int = variable("NODE_PROBE_INTERVAL", duration, "10s")
    node_discovery_interval_s: int = variable("NODE_DISCOVERY_INTERVAL", duration, "30s")

    gateway_url: str | None = variable("GATEWAY_URL", HTTP, example="https://inference.example.com")
    metrics_interval_s: int = variable("METRICS_INTERVAL", duration, "60s")
    metrics_wallets: str = variable("METRICS_WALLETS", choice("own", "nodes"), "own")

    free_tier_limit: int = variable("FREE_TIER_LIMIT", whole(1, 100_000), "10")
    free_tier_window_s: int = variable("FREE_TIER_WINDOW", duration, "1h")
    free_tier_max_tokens: int = variable("FREE_TIER_MAX_TOKENS", whole(1, 4096), "2048")
    pro_tier_max_tokens: int = variable("PRO_TIER_MAX_TOKENS", whole(1, 4096), "4096")

    max_unsettled_tokens: int = variable("MAX_UNSETTLED_TOKENS", whole(1), "200000")
    settlement_interval_s: int = variable("SETTLEMENT_INTERVAL", duration, "60s")
    settlement_confirmations: int = variable("SETTLEMENT_CONFIRMATIONS", whole(1, 64), "3")
    settlement_max_fee_gwei: int = variable("SETTLEMENT_MAX_FEE_GWEI", whole(1), "100")

    cors_origins: tuple[str, ...] = variable("CORS_ORIGINS", many(origin), "http://localhost:3000")
    proxies_count: int = variable("PROXIES_COUNT", whole(0, 10), "0")
    max_body_bytes: int = variable("MAX_BODY_SIZE", size, "1MiB")
    stream_heartbeat_s: int = variable("STREAM_HEARTBEAT", duration, "15s")
    resume_window_s: int = variable("RESUME_WINDOW", duration, "30s")
    shutdown_timeout_s: int = variable("SHUTDOWN_TIMEOUT", duration, "20s")

    @classmethod
    def load(cls) -> Self:
        """The settings of this process. Raises InvalidSettings."""
        return cls.from_env(environment())

    @classmethod
    def inherited(cls, keys: Mapping[str, str] | None = None) -> Self:
        """The settings of a process whose parent called `hand_down`, with these keys or without any."""
        return cls.from_env({**os.environ, **(keys or {})})

    @classmethod
    def from_env(cls, environ: Mapping[str, str | None]) -> Self:
        """
        Reads all variables; an empty value counts as not set.

        Raises InvalidSettings with every problem at once.
        """
        values: dict[str, Any] = {}
        problems: list[str] = []
        for attribute, about in variables():
            given = (environ.get(about.name) or "").strip()
            try:
                values[attribute] = _value(about, given)
            except ValueError as problem:
                problems.append(f"{about.name}: {problem}. Example: {about.name}={about.example}")
        if not any((environ.get(name) or "").strip() for name in SOURCES):
            problems.append(
                f"{', '.join(SOURCES)}: none of them is set, so there is no way to find a node."
                " Example: NODE_URLS=http://localhost:31331"
            )
        if problems:
            raise InvalidSettings(problems)
        values["gateway_private_key"] = values["gateway_private_key"] or values["private_key"]
        return cls(**values)


def variables() -> list[tuple[str, Variable]]:
    """Each attribute of Settings with the variable that it is read from, in order."""
    return [(item.name, item.metadata["variable"]) for item in fields(Settings)]


def environment() -> dict[str, str | None]:
    """
    The variables of this process: `.env` in the working folder, overridden by what the environment sets.

    Raises InvalidSettings when `.env` can't be read.
    """
    given = {name: value for name, value in os.environ.items() if value.strip()}
    return {**_from_file(Path(".env")), **given}


def hand_down(given: Mapping[str, str | None]) -> dict[str, str]:
    """
    Has processes that are spawned from here on inherit all settings of `given`, but not the wallets' keys.

    They find this code, and no other, from wherever the command was started: before 3.12.8, a fork server is told no
    path of modules.

    The keys are returned: whoever needs them is given them by hand. A web worker, which talks to strangers, never has
    them in its environment or memory.
    """
    names = {about.name for _, about in variables()}
    os.environ.update({name: value for name, value in given.items() if value and name in names})
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ["PYTHONSAFEPATH"] = "1"
    for name in KEYS:
        os.environ.pop(name, None)
    return {name: value for name in KEYS if (value := given.get(name))}


def publish_redis_url(redis_url: str) -> None:
    """Hands the address of the embedded Redis to the processes that are spawned from here on."""
    os.environ["REDIS_URL"] = redis_url


def _from_file(file: Path) -> dict[str, str | None]:
    try:
        lines = list(parse_stream(StringIO(file.read_text("utf-8"))))
    except (FileNotFoundError, IsADirectoryError):
        return {}
    except OSError as problem:
        raise InvalidSettings([f"{file}: can't be read: {problem.strerror}"]) from problem
    except UnicodeDecodeError:
        raise InvalidSettings([f"{file}: can't be read: it is not UTF-8"]) from None
    problems = [
        f"{file}: line {_number(line)} is neither NAME=value nor a comment. Example: PORT=3200"
        for line in lines
        if line.error
    ]
    if problems:
        raise InvalidSettings(problems)
    return {line.key: line.value for line in lines if line.key is not None}


def _number(line: Binding) -> int:
    """The parser counts from the blank lines before it."""
    text = line.original.string
    return line.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _value(about: Variable, given: str) -> Any:
    raw = given or about.default
    if raw is not None:
        return about.parse(raw)
    if about.required:
        raise ValueError("is not set")
    return () if about.name == "NODE_URLS" else None
