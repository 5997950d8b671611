"""The settings: what each variable takes, what is said about what it does not take, and that all processes see them."""

from __future__ import annotations

import dataclasses
import errno
import http.client
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from conf.settings import EXIT_CODE, SOURCES, InvalidSettings, Settings, environment, hand_down, variables
from tests.e2e.server import APP, GatewayServer

SECRET = "s" * 32
KEY = "ab" * 32
CURVE_ORDER = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141"  # of secp256k1, SEC 2, 2.4.1
NEEDED = {"JWT_SECRET": SECRET, "NODE_URLS": "http://node:31331"}

# variable: (its attribute's default, a text and its value, ..., texts that are refused)
DURATION = ([("90", 90), ("45s", 45), ("2m", 120), ("3h", 10_800), ("7d", 604_800)], ["0", "-1", "1.5s", "1w", "soon"])
REDIS_URLS = (
    *("redis://h:6379/0", "rediss://u:p@h/1", "unix:///run/redis.sock", "redis://h", "redis://:p@[::1]:6379/15?db=3"),
    *("unix://u:p@/run/redis.sock?db=3", "redis://h?username=u&password=p"),
    "rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false&ssl_ca_certs=/ca.pem&ssl_min_version=772",
    "rediss://h?ssl_exclude_verify_flags=VERIFY_X509_STRICT,VERIFY_X509_PARTIAL_CHAIN&ssl_ciphers=ECDHE",
)
HTTP_URL = (
    [("http://a:1", "http://a:1"), ("https://a.example/x/", "https://a.example/x")],
    ["a:1", "ftp://a", "http://", "http://a:0", "http://a b"],
)
CASES: dict[str, tuple[Any, list[tuple[str, Any]], list[str]]] = {
    "HOST": ("0.0.0.0", [("::1", "::1")], []),
    "PORT": (3200, [("1", 1), ("65535", 65_535)], ["0", "65536", "-1", "80.0", "http"]),
    "WEB_CONCURRENCY": (2, [("1", 1), ("256", 256)], ["0", "257", "auto"]),
    "PLUMISE_DATA_DIR": (Path("data"), [("/var/lib/plumise", Path("/var/lib/plumise")), ("~", Path.home())], []),
    "REDIS_URL": (
        None,
        [(url, url) for url in REDIS_URLS],
        [
            *("h:6379", "http://h", "redis://", "redis://h:6379/abc", "redis://h/0/1", "redis://h/-1", "redis://h/0#1"),
            *("unix://", "unix://run/redis.sock", "redis://h?db=x", "redis://h?db=", "redis://h?nonsense"),
            *("redis://h?socket_timeout=abc", "redis://h?ssl_cert_reqs=none", "rediss://h?ssl_cert_reqs=bogus"),
            *("rediss://h?ssl_check_hostname=off", "rediss://h?ssl_min_version=1", "rediss://h?ssl_ca_certs="),
            *("rediss://h?ssl_include_verify_flags=STRICT", "redis://h?family=0", "redis://bad..host"),
        ],
    ),
    "LOG_LEVEL": ("info", [("DEBUG", "debug"), ("warning", "warning"), ("error", "error")], ["loud"]),
    "LOG_FORMAT": ("text", [("json", "json"), ("Text", "text")], ["xml"]),
    "JWT_SECRET": (SECRET, [("t" * 32, "t" * 32), ("비밀" * 6, "비밀" * 6)], ["s" * 31]),
    "JWT_SECRET_PREVIOUS": (None, [("t" * 32, "t" * 32)], ["s" * 31]),
    "JWT_EXPIRATION": (86_400, *DURATION),
    "OPENAI_COMPAT_API_KEY": (None, [("k" * 16, "k" * 16)], ["k" * 15]),
    "CHAIN_RPC_URL": ("http://localhost:26902", *HTTP_URL),
    "CHAIN_WS_URL": ("ws://localhost:26912", [("wss://a/x", "wss://a/x")], ["http://a", "a:1"]),
    "CHAIN_ID": (41_956, [("1", 1)], ["0", "0xa3e4"]),
    "INFERENCE_PAYMENT_ADDRESS": (None, [(f"0X{'A' * 40}", "0x" + "a" * 40)], ["0x", "a" * 42]),
    "PRIVATE_KEY": (
        None,
        [
            ("0x" + KEY, "0x" + KEY),
            (KEY.upper(), "0x" + KEY),
            ("0" * 63 + "1", "0x" + "0" * 63 + "1"),
            (CURVE_ORDER[:-1] + "0", "0x" + CURVE_ORDER[:-1] + "0"),
        ],
        ["0x" + KEY[1:], KEY + "00", "z" * 64, "0" * 64, CURVE_ORDER, "f" * 64],
    ),
    "GATEWAY_PRIVATE_KEY": (None, [(KEY, "0x" + KEY)], ["0x", "1" * 63, "0x" + "0" * 64]),
    "ORACLE_API_URL": (None, *HTTP_URL),
    "ORACLE_API_KEY": (None, [("k", "k")], []),
    "NODE_URLS": (
        ("http://node:31331",),
        [("http://a:1/, http://b:2 ,http://a:1,", ("http://a:1", "http://b:2"))],
        ["http://a,b", "ws://a"],
    ),
    "PETALS_API_URL": (None, *HTTP_URL),
    "NODE_API_SECRET": (None, [("k", "k")], []),
    "ALLOW_PRIVATE_NODES": (False, [("true", True), ("YES", True), ("1", True), ("off", False)], ["2", "ja"]),
    "MODELS_FILE": (None, [("models.toml", Path("models.toml"))], []),
    "RELAY_WALLETS": (None, [(f"0X{'A' * 40}, 0x{'b' * 40}", ("0x" + "a" * 40, "0x" + "b" * 40))], ["0x", "a" * 42]),
    "NODE_CONNECT_TIMEOUT": (3, *DURATION),
    "NODE_FIRST_TOKEN_TIMEOUT": (60, *DURATION),
    "NODE_TOKEN_TIMEOUT": (30, *DURATION),
    "NODE_TOTAL_TIMEOUT": (300, *DURATION),
    "NODE_PROBE_INTERVAL": (10, *DURATION),
    "NODE_DISCOVERY_INTERVAL": (30, *DURATION),
    "GATEWAY_URL": (None, *HTTP_URL),
    "METRICS_INTERVAL": (60, *DURATION),
    "METRICS_WALLETS": ("own", [("nodes", "nodes")], ["all"]),
    "FREE_TIER_LIMIT": (10, [("1", 1), ("100000", 100_000)], ["0", "100001", "ten"]),
    "FREE_TIER_WINDOW": (3600, *DURATION),
    "FREE_TIER_MAX_TOKENS": (2048, [("1", 1), ("4096", 4096)], ["0", "4097"]),
    "PRO_TIER_MAX_TOKENS": (4096, [("1", 1)], ["0", "4097"]),
    "MAX_UNSETTLED_TOKENS": (200_000, [("1", 1)], ["0", "-1"]),
    "SETTLEMENT_INTERVAL": (60, *DURATION),
    "SETTLEMENT_CONFIRMATIONS": (3, [("1", 1), ("64", 64)], ["0", "65"]),
    "SETTLEMENT_MAX_FEE_GWEI": (100, [("1", 1)], ["0", "1.5"]),
    "CORS_ORIGINS": (
        ("http://localhost:3000",),
        [("https://a.example,http://b:80", ("https://a.example", "http://b:80"))],
        ["*", "a.example", "https://a.example/path", "https://user@a.example"],
    ),
    "PROXIES_COUNT": (0, [("1", 1), ("10", 10)], ["11", "-1"]),
    "MAX_BODY_SIZE": (1_048_576, [("2048", 2048), ("512KiB", 524_288), ("2 MiB", 2_097_152)], ["0", "1MB", "1GiB"]),
    "STREAM_HEARTBEAT": (15, *DURATION),
    "RESUME_WINDOW": (30, *DURATION),
    "SHUTDOWN_TIMEOUT": (20, *DURATION),
}  # fmt: skip
ATTRIBUTES = {about.name: attribute for attribute, about in variables()}


def value(name: str, settings: Settings) -> Any:
    return getattr(settings, ATTRIBUTES[name])


def problems_of(environ: dict[str, str]) -> list[str]:
    with pytest.raises(InvalidSettings) as refused:
        Settings.from_env(environ)
    return refused.value.problems


class TestEachVariable:
    def test_the_table_above_has_all_of_them(self) -> None:
        assert set(CASES) == set(ATTRIBUTES)

    @pytest.mark.parametrize("name", CASES)
    def test_has_its_default_when_it_is_not_set(self, name: str) -> None:
        assert value(name, Settings.from_env(NEEDED)) == CASES[name][0]

    @pytest.mark.parametrize(
        ("name", "text", "expected"), [(n, *good) for n, case in CASES.items() for good in case[1]]
    )
    def test_is_read(self, name: str, text: str, expected: Any) -> None:
        assert value(name, Settings.from_env(NEEDED | {name: f" {text} "})) == expected

    @pytest.mark.parametrize(("name", "text"), [(n, bad) for n, case in CASES.items() for bad in case[2]])
    def test_is_refused_by_name_with_an_example(self, name: str, text: str) -> None:
        (problem,) = problems_of(NEEDED | {name: text})

        assert problem.startswith(f"{name}: must be ")
        assert f"Example: {name}=" in problem
        assert not problem.endswith("=")

    @pytest.mark.parametrize("name", [name for name in CASES if name not in NEEDED])
    def test_counts_as_not_set_when_it_is_empty(self, name: str) -> None:
        assert Settings.from_env(NEEDED | {name: "  "}) == Settings.from_env(NEEDED)


class TestAllTogether:
    def test_every_problem_is_told_at_once(self) -> None:
        problems = problems_of({"JWT_SECRET": "short", "PORT": "x", "LOG_LEVEL": "loud", "MAX_BODY_SIZE": "1MB"})

        assert [problem.partition(":")[0] for problem in problems] == [
            "PORT", "LOG_LEVEL", "JWT_SECRET", "MAX_BODY_SIZE", ", ".join(SOURCES),
        ]  # fmt: skip

    def test_one_address_is_asked_for_as_one(self) -> None:
        (problem,) = problems_of(NEEDED | {"INFERENCE_PAYMENT_ADDRESS": "0x12"})

        assert problem.startswith("INFERENCE_PAYMENT_ADDRESS: must be an address: 0x and 40 hex digits. Example: ")

    def test_a_missing_secret_is_told(self) -> None:
        (problem,) = problems_of({"NODE_URLS": "http://node:1", "JWT_SECRET": ""})

        assert problem == "JWT_SECRET: is not set. Example: JWT_SECRET=the output of: openssl rand -hex 32"

    def test_without_any_source_of_nodes_there_is_no_start(self) -> None:
        (problem,) = problems_of({"JWT_SECRET": SECRET, "NODE_URLS": " "})

        assert all(name in problem for name in SOURCES)

    @pytest.mark.parametrize("source", SOURCES)
    def test_one_source_of_nodes_is_enough(self, source: str) -> None:
        assert Settings.from_env({"JWT_SECRET": SECRET, source: "http://source:1"})

    def test_the_gateway_signs_with_the_common_key_unless_it_has_its_own(self) -> None:
        common = Settings.from_env(NEEDED | {"PRIVATE_KEY": KEY})
        own = Settings.from_env(NEEDED | {"PRIVATE_KEY": KEY, "GATEWAY_PRIVATE_KEY": "cd" * 32})

        assert common.gateway_private_key == "0x" + KEY
        assert own.gateway_private_key == "0x" + "cd" * 32

    def test_they_do_not_change(self) -> None:
        with pytest.raises(dataclasses.FrozenInstanceError):
            Settings.from_env(NEEDED).port = 1  # type: ignore[misc] # that is what is tried


class TestSecrets:
    GIVEN = {  # noqa: RUF012 - read only
        "JWT_SECRET": "1-hidden" * 4,
        "JWT_SECRET_PREVIOUS": "2-hidden" * 4,
        "OPENAI_COMPAT_API_KEY": "3-hidden-hidden-hidden",
        "PRIVATE_KEY": "4" * 64,
        "GATEWAY_PRIVATE_KEY": "5" * 64,
        "ORACLE_API_KEY": "6-hidden",
        "NODE_API_SECRET": "7-hidden",
        "REDIS_URL": "redis://user:8-hidden@host/0",
        "CHAIN_RPC_URL": "http://host/9-hidden",
        "CHAIN_WS_URL": "ws://host/10-hidden",
    }

    def test_never_show_in_a_repr(self) -> None:
        shown = repr(Settings.from_env(NEEDED | self.GIVEN))

        assert not [name for name, secret in self.GIVEN.items() if secret in shown]
        assert "hidden" not in shown

    @pytest.mark.parametrize("name", ["JWT_SECRET", "JWT_SECRET_PREVIOUS", "OPENAI_COMPAT_API_KEY", "PRIVATE_KEY"])
    def test_never_show_in_a_complaint(self, name: str) -> None:
        (problem,) = problems_of(NEEDED | {name: "hunter2"})

        assert "hunter2" not in problem

    @pytest.mark.parametrize(
        "url",
        [
            "redis://:hunter2@h/abc",
            "redis://:pa?hunter2=word@h/0",
            "redis://h?password=hunter2&db=hunter2",
            "redis://u:1#hunter2@h",
            "unix://:hunter2@run/redis.sock",
            "rediss://h?ssl_cert_reqs=hunter2",
        ],
    )
    def test_no_part_of_the_url_of_redis_shows_in_a_complaint(self, url: str) -> None:
        (problem,) = problems_of(NEEDED | {"REDIS_URL": url})

        assert problem.startswith("REDIS_URL: must be a URL ")
        assert problem.endswith(". Example: REDIS_URL=redis://localhost:6379/0")
        assert "hunter2" not in problem


class TestLoad:
    @pytest.fixture
    def here(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
        """Writes `.env` into the working folder; nothing of this machine's environment is left."""
        monkeypatch.chdir(tmp_path)
        for name in CASES:
            monkeypatch.delenv(name, raising=False)

        def write(text: str) -> None:
            (tmp_path / ".env").write_text(text)

        return write

    def test_reads_the_env_file_of_the_working_folder(self, here: Callable[[str], None]) -> None:
        here(f"JWT_SECRET={SECRET}\nexport NODE_URLS='http://a:1' # one\nPORT=4000\n")

        settings = Settings.load()

        assert (settings.jwt_secret, settings.node_urls, settings.port) == (SECRET, ("http://a:1",), 4000)

    def test_takes_a_value_as_it_stands(self, here: Callable[[str], None]) -> None:
        here(f"JWT_SECRET={SECRET}${{HOME}}\nNODE_URLS=http://a:1\n")

        assert Settings.load().jwt_secret == SECRET + "${HOME}"

    def test_the_environment_wins_over_the_file(
        self, here: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here(f"JWT_SECRET={SECRET}\nNODE_URLS=http://a:1\nPORT=4000\n")
        monkeypatch.setenv("PORT", "5000")

        assert Settings.load().port == 5000

    def test_an_empty_variable_does_not_hide_the_file(
        self, here: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here(f"JWT_SECRET={SECRET}\nNODE_URLS=http://a:1\nPORT=4000\n")
        monkeypatch.setenv("PORT", "")

        assert Settings.load().port == 4000

    def test_works_without_a_file(self, here: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
        for name, text in NEEDED.items():
            monkeypatch.setenv(name, text)

        assert Settings.load().port == 3200

    def test_what_is_handed_down_is_all_but_the_keys(
        self, here: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here(f"JWT_SECRET={SECRET}\nNODE_URLS=http://a:1\nPRIVATE_KEY={KEY}\nPYTHONPATH=/elsewhere\n")
        monkeypatch.setenv("GATEWAY_PRIVATE_KEY", "cd" * 32)
        monkeypatch.setenv("PORT", "5000")
        with patch.dict("os.environ"):
            keys = hand_down(environment())
            here("JWT_SECRET=of-another-file-that-nobody-reads-again\n")
            bare, full = Settings.inherited(), Settings.inherited(keys)

        assert keys == {"PRIVATE_KEY": KEY, "GATEWAY_PRIVATE_KEY": "cd" * 32}
        assert (bare.jwt_secret, bare.port, bare.private_key, bare.gateway_private_key) == (SECRET, 5000, None, None)
        assert (full.private_key, full.gateway_private_key) == ("0x" + KEY, "0x" + "cd" * 32)

    def test_a_file_that_may_not_be_read_is_told(
        self, here: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        here("")

        def forbid(*_: object) -> str:  # root, who may run this, is refused no file
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "read_text", forbid)

        with pytest.raises(InvalidSettings, match=r"^\.env: can't be read: Permission denied$"):
            Settings.load()

    def test_a_file_in_another_encoding_is_told(self, here: Callable[[str], None], tmp_path: Path) -> None:
        (tmp_path / ".env").write_bytes("JWT_SECRET=hidden\n".encode("utf-16"))

        with pytest.raises(InvalidSettings) as refused:
            Settings.load()

        assert refused.value.problems == [".env: can't be read: it is not UTF-8"]

    def test_each_line_that_is_no_variable_is_told_by_its_number(self, here: Callable[[str], None]) -> None:
        here(f"# a comment\nJWT_SECRET={SECRET}\n\nPRIVATE_KEY='hidden\nNODE_URLS=http://a:1\nPORT 4000\n")

        with pytest.raises(InvalidSettings) as refused:
            Settings.load()

        assert refused.value.problems == [
            f".env: line {number} is neither NAME=value nor a comment. Example: PORT=3200" for number in (4, 6)
        ]

    def test_a_folder_of_its_name_is_no_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Compose makes one where a file that is mounted is missing."""
        monkeypatch.chdir(tmp_path)
        (tmp_path / ".env").mkdir()

        assert environment() == {name: value for name, value in os.environ.items() if value.strip()}  # noqa: TID251


class TestTheCommand:
    def test_refuses_a_folder_in_which_charges_can_not_wait(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        env = {
            "PLUMISE_DATA_DIR": "file",
            "REDIS_URL": "redis://127.0.0.1:9",
            "INFERENCE_PAYMENT_ADDRESS": "0x" + "1" * 40,
        }
        server = GatewayServer(tmp_path, env, (str(Path(__file__).parent.parent / "app.py"),))

        server.launch()

        assert server.wait() == EXIT_CODE
        assert server.log() == (
            "PLUMISE_DATA_DIR: file can't be used: File exists. Example: PLUMISE_DATA_DIR=/var/lib/plumise\n"
        )

    @pytest.mark.parametrize(
        "program",
        [("app.py",), ("app.py", "--web-only"), ("-m", "workers.background"), ("-m", "workers.settlement")],
        ids=["app", "web", "background", "settler"],
    )
    def test_ends_with_exit_code_78_and_one_line_for_each_problem(
        self, tmp_path: Path, program: tuple[str, ...]
    ) -> None:
        root = Path(__file__).parent.parent
        program = tuple(str(root / part) if part == "app.py" else part for part in program)
        server = GatewayServer(tmp_path, {"JWT_SECRET": "short", "NODE_URLS": "", "LOG_LEVEL": "loud"}, program)

        server.launch()

        assert server.wait() == EXIT_CODE == 78
        assert [line.partition(":")[0] for line in server.log().splitlines()] == [
            "LOG_LEVEL", "JWT_SECRET", ", ".join(SOURCES),
        ]  # fmt: skip

    @pytest.mark.parametrize("module", ["workers.background", "workers.settlement"])
    def test_prints_its_help_whatever_the_settings(self, tmp_path: Path, module: str) -> None:
        server = GatewayServer(tmp_path, {"JWT_SECRET": "short"}, ("-m", module, "--help"))

        server.launch()

        assert server.wait() == 0
        assert server.log().startswith(f"usage: python -m {module} [-h]")

    @pytest.mark.parametrize("program", [APP, ("-m", "workers.background")], ids=["app", "background"])
    def test_tells_once_what_it_can_not_read_in_the_env_file(self, tmp_path: Path, program: tuple[str, ...]) -> None:
        (tmp_path / ".env").write_text("PORT=4000\nWEB_CONCURRENCY 3\n")
        server = GatewayServer(tmp_path, program=program)

        server.launch()

        assert server.wait() == EXIT_CODE
        assert server.log() == ".env: line 2 is neither NAME=value nor a comment. Example: PORT=3200\n"

    def test_refuses_a_broken_catalogue_the_same_way(self, tmp_path: Path) -> None:
        (tmp_path / "models.toml").write_text("[[models]]\nid = 1\n")
        server = GatewayServer(tmp_path, {"MODELS_FILE": "models.toml"})

        server.launch()

        assert server.wait() == EXIT_CODE
        assert server.log().startswith("MODELS_FILE: models.toml: ")
        assert server.log().count("\n") == 1

    def test_a_background_worker_alone_needs_a_redis(self, tmp_path: Path) -> None:
        server = GatewayServer(tmp_path, program=("-m", "workers.background"))

        server.launch()

        assert server.wait() == EXIT_CODE
        assert server.log().startswith("REDIS_URL: is not set")

    def test_every_web_worker_has_the_settings_of_the_env_file(self, tmp_path: Path) -> None:
        (tmp_path / ".env").write_text("MAX_BODY_SIZE=1000\nWEB_CONCURRENCY=3\n")
        with GatewayServer(tmp_path, program=("-m", "tests.e2e.streaming_app", "--web-only")) as server:
            accepted = dict(_echoed(server, 1000) for _ in range(60))
            refused = [_status(server, 1001) for _ in range(60)]

        assert len(accepted) == 3  # all three workers answered
        assert set(refused) == {413}


def _echoed(server: GatewayServer, length: int) -> tuple[int, int]:
    status, body = _post(server, length)
    assert status == 200
    answer = json.loads(body)
    return answer["pid"], answer["bytes"]


def _status(server: GatewayServer, length: int) -> int:
    return _post(server, length)[0]


def _post(server: GatewayServer, length: int) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    try:
        connection.request("POST", "/echo", b"x" * length, {"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
