"""The log: its lines in both forms, the request's id in them, and no secret anywhere."""

from __future__ import annotations

import io
import json
import logging
import logging.config
import re
import sys
from collections.abc import Callable, Iterator

import pytest

from conf.log_config import Stdout, log_config
from conf.settings import Settings
from core.request_id import request_id

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIweDEifQ.abc-DEF_123"
KEY = "0x" + "ab" * 32
GIVEN = {
    "JWT_SECRET": "the-secret-that-signs-all-the-tokens",
    "NODE_URLS": "http://node:1",
    "ORACLE_API_KEY": "plain-words-as-a-key",
    "CHAIN_RPC_URL": "https://rpc.example/v3/key-in-the-path",
}
Lines = Callable[[], list[str]]

logger = logging.getLogger("tests.log")
in_both_forms = pytest.mark.parametrize("log", ["text", "json"], indirect=True)


@pytest.fixture
def log(request: pytest.FixtureRequest) -> Iterator[Lines]:
    """Applies the configuration for LOG_FORMAT (text unless the test says otherwise); gives the lines so far."""
    root = logging.getLogger()
    former, level = root.handlers[:], root.level
    form = getattr(request, "param", "text")
    config = log_config(Settings.from_env(GIVEN | {"LOG_FORMAT": form, "LOG_LEVEL": "info"}))
    logging.config.dictConfig({**config, "loggers": {}})
    (handler,) = root.handlers
    assert isinstance(handler, logging.StreamHandler)
    written = io.StringIO()
    handler.setStream(written)
    yield lambda: written.getvalue().splitlines()
    root.handlers[:] = former
    root.setLevel(level)


class TestLines:
    def test_a_line_has_time_level_source_and_message(self, log: Lines) -> None:
        logger.info("hello %s", "world")

        (line,) = log()
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO    tests\.log hello world", line)

    def test_a_line_names_the_request_that_it_was_written_for(self, log: Lines) -> None:
        token = request_id.set("r-1")
        logger.warning("slow")
        request_id.reset(token)
        logger.warning("slow")

        with_request, without = log()
        assert with_request.endswith("WARNING tests.log [r-1] slow")
        assert without.endswith("WARNING tests.log slow")

    def test_the_level_is_kept(self, log: Lines) -> None:
        logger.debug("never shown")

        assert log() == []

    def test_a_stranger_s_words_make_no_line_of_their_own(self, log: Lines) -> None:
        logger.info("with %s", "a\nb\r\x00\x1b[31m\x7f\x85\x9b\u2028\u2029\u202e\t한글 é\u00a0🙂")

        (line,) = log()
        assert line.endswith(r"with a\nb\r\x00\x1b[31m\x7f\x85\x9b\u2028\u2029\u202e\t한글 é" + "\u00a0🙂")

    def test_an_exception_keeps_its_lines(self, log: Lines) -> None:
        fail("no luck")

        first, *trace = log()
        assert first.endswith("it failed")
        assert (trace[0], trace[-1]) == ("Traceback (most recent call last):", "ValueError: no luck")

    @in_both_forms
    @pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
    def test_no_character_makes_a_line_fail(
        self, log: Lines, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], encoding: str
    ) -> None:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding))
        handler = Stdout()
        handler.setFormatter(logging.getLogger().handlers[0].formatter)

        handler.handle(logging.makeLogRecord({"name": "x", "msg": "lone \ud800", "levelname": "INFO"}))

        assert rb"lone \ud800" in written.getvalue()
        assert "Logging error" not in capsys.readouterr().err

    @pytest.mark.parametrize("log", ["json"], indirect=True)
    def test_as_json_it_is_one_object_a_line_whatever_the_message(self, log: Lines) -> None:
        token = request_id.set("r-1")
        logger.error('two\nlines and "quotes" 한글')
        request_id.reset(token)

        (line,) = log()
        entry = json.loads(line)
        assert entry.pop("time").endswith("Z")
        assert entry == {
            "level": "error", "logger": "tests.log", "request_id": "r-1", "message": 'two\nlines and "quotes" 한글',
        }  # fmt: skip

    @pytest.mark.parametrize("log", ["json"], indirect=True)
    def test_as_json_an_exception_is_a_field(self, log: Lines) -> None:
        fail("no luck")

        (line,) = log()
        assert json.loads(line)["exception"].endswith("ValueError: no luck")


def fail(message: str) -> None:
    try:
        raise ValueError(message)
    except ValueError:
        logger.exception("it failed")


class TestSecrets:
    @in_both_forms
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("Authorization: Bearer abc.def-123", "Authorization: Bearer ***"),
            (f"token {JWT} is old", "token *** is old"),
            (f"key {KEY}.", "key ***."),
            ("at redis://user:pa:ss@host:6379/0", "at redis://***@host:6379/0"),
            ("x-api-key: hunter2", "x-api-key: ***"),
            ("?api_key=hunter2&x=1", "?api_key=***&x=1"),
            ("{'password': 'hunter2'}", "{'password': '***'}"),
            ("with sk-abcdefgh12345678", "with ***"),
            ("Authorization: Bearer\tabc.def-123", "***"),
            (f"oracle says {GIVEN['ORACLE_API_KEY']}", "oracle says ***"),
            (f"signed by {GIVEN['JWT_SECRET']}", "signed by ***"),
            (f"POST {GIVEN['CHAIN_RPC_URL']}", "POST ***"),
        ],
    )
    def test_are_masked_in_messages_arguments_and_exceptions(self, log: Lines, text: str, shown: str) -> None:
        logger.info(text)
        logger.info("said: %s", text)
        fail(text)

        output = "\n".join(log())
        assert output.count(shown) == 3
        assert text not in output

    @pytest.mark.parametrize(
        "text",
        [
            "signature 0x" + "ab" * 65,
            "wallet 0x" + "ab" * 20,
            "http://node:31331/health answered 503 in 12 tokens",
            "max_tokens 512, 20 tokens/s, secretary",
        ],
    )
    def test_what_is_none_stays_readable(self, log: Lines, text: str) -> None:
        logger.info(text)

        assert log()[0].endswith(text)

    def test_an_address_that_is_the_default_stays_readable(self, log: Lines) -> None:
        logger.info("can't reach ws://localhost:26912")

        assert log()[0].endswith("ws://localhost:26912")


class TestLibraries:
    @pytest.mark.parametrize("name", ["web3.providers.WebSocketProvider", "websockets.client"])
    def test_say_nothing_of_the_urls_that_they_connect_to(self, name: str) -> None:
        """At debug websockets logs CHAIN_WS_URL's path and query, where providers have their keys."""
        levels = log_config(Settings.from_env(GIVEN | {"LOG_LEVEL": "debug"}))["loggers"]

        assert levels[name.partition(".")[0]] == {"level": "WARNING"}
