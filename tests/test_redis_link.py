"""The one connection to Redis: order, losses, deadlines, and what a server may say that is no answer."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import parse_url

from bench.ports import free_port
from core.redis_link import LinkFailed, RedisLink, Refused, tls_context
from tests.fakes.redis_server import RedisServer
from tests.test_settings import REDIS_URLS


@asynccontextmanager
async def linked(url: str, timeout_s: float = 10) -> AsyncIterator[RedisLink]:
    link = RedisLink(url, timeout_s)
    try:
        yield link
    finally:
        await link.aclose()


@asynccontextmanager
async def saying(answer: bytes) -> AsyncIterator[str]:
    """A server that says the same to each command, whatever it is."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.asyncio
class TestReplies:
    async def test_each_caller_gets_his_own(self, redis_url: str) -> None:
        async with linked(redis_url) as link:
            said = await asyncio.gather(*(link.call(["ECHO", str(i)]) for i in range(1_000)))

        assert said == [str(i) for i in range(1_000)]

    async def test_also_when_others_leave_in_the_middle(self, redis_url: str) -> None:
        chance = Random(7)

        async def ask(link: RedisLink, i: int) -> bool:
            return bool(await link.call(["ECHO", str(i)]) == str(i))

        async with linked(redis_url) as link:
            tasks = []
            for i in range(10_000):
                tasks.append(asyncio.create_task(ask(link, i)))
                if chance.random() < 0.3:
                    await asyncio.sleep(0)
                if chance.random() < 0.5:
                    chance.choice(tasks[-20:]).cancel()
            said = await asyncio.gather(*tasks, return_exceptions=True)

        left = sum(isinstance(each, asyncio.CancelledError) for each in said)
        assert 0 < left < 10_000
        assert said.count(True) == 10_000 - left

    async def test_are_text_numbers_none_and_lists(self, redis_url: str) -> None:
        async with linked(redis_url) as link:
            assert await link.call(["SET", "k", "값"]) == "OK"
            assert await link.call(["GET", "k"]) == "값"
            assert await link.call(["GET", "none"]) is None
            assert await link.call(["EVAL", "return {1, {'a'}, false}", 0]) == [1, ["a"], None]

    async def test_what_is_no_text_does_no_harm(self, redis_url: str) -> None:
        async with linked(redis_url) as link:
            await link.call(["SET", "k", b"\xff\x00a"])

            assert await link.call(["GET", "k"]) == "\ufffd\x00a"

    async def test_an_error_is_the_callers_own(self, redis_url: str) -> None:
        async with linked(redis_url) as link:
            said = await asyncio.gather(
                link.call(["PING"]), link.call(["NONSENSE"]), link.call(["PING"]), return_exceptions=True
            )

        assert said[0] == said[2] == "PONG"
        assert isinstance(said[1], Refused)
        assert said[1].kind == "ERR"
        assert "NONSENSE" in str(said[1])

    async def test_an_error_says_nothing_of_what_was_sent(self, redis_url: str) -> None:
        async with linked(redis_url) as link:
            with pytest.raises(Refused) as refused:
                await link.call(["NONSENSE", "hidden"])

        assert str(refused.value) == "ERR unknown command 'NONSENSE'"


@pytest.mark.asyncio
class TestTheConnection:
    async def test_is_one_for_all(self, own_redis: RedisServer) -> None:
        async with linked(own_redis.url) as link:
            await asyncio.gather(*(link.call(["PING"]) for _ in range(100)))
            clients = await link.call(["CLIENT", "LIST"])

        assert len(clients.splitlines()) == 1

    async def test_introduces_itself(self, own_redis: RedisServer) -> None:
        async with linked(own_redis.url) as link:
            await link.call(["CONFIG", "SET", "requirepass", "sesame"])
        async with linked(f"unix://:sesame@{own_redis.socket}?db=3") as link:
            assert "db=3" in await link.call(["CLIENT", "LIST"])
        async with linked(f"unix://:wrong@{own_redis.socket}") as link:
            with pytest.raises(LinkFailed):
                await link.call(["PING"])

    async def test_is_made_anew_after_a_restart(self, own_redis: RedisServer) -> None:
        async with linked(own_redis.url) as link:
            await link.call(["SET", "k", "v"])
            own_redis.stop()
            with pytest.raises(LinkFailed):
                await link.call(["GET", "k"])
            await asyncio.to_thread(own_redis.start)

            assert await asyncio.gather(*(link.call(["PING"]) for _ in range(50))) == ["PONG"] * 50

    async def test_whoever_waits_when_it_is_lost_is_told_at_once(self, own_redis: RedisServer) -> None:
        async with linked(own_redis.url) as link:
            await link.call(["PING"])
            waiting = asyncio.gather(*(link.call(["BLPOP", "k", 0]) for _ in range(10)), return_exceptions=True)
            await asyncio.sleep(0)
            own_redis.stop()
            said = await waiting

        assert all(isinstance(each, LinkFailed) for each in said)

    async def test_a_server_that_hangs_costs_no_more_than_the_time_allowed(self, own_redis: RedisServer) -> None:
        assert own_redis.process is not None
        async with linked(own_redis.url, timeout_s=0.3) as link:
            await link.call(["PING"])
            os.kill(own_redis.process.pid, signal.SIGSTOP)
            started = time.monotonic()
            said = await asyncio.gather(*(link.call(["PING"]) for _ in range(5)), return_exceptions=True)
            took_s = time.monotonic() - started
            os.kill(own_redis.process.pid, signal.SIGCONT)

            assert all(isinstance(each, LinkFailed) for each in said)
            assert 0.25 < took_s < 5
            assert await link.call(["PING"]) == "PONG"

    async def test_what_was_asked_of_a_hanging_server_is_not_done_when_it_goes_on(self, own_redis: RedisServer) -> None:
        assert own_redis.process is not None
        os.kill(own_redis.process.pid, signal.SIGSTOP)
        async with linked(own_redis.url, timeout_s=0.2) as link:
            with pytest.raises(LinkFailed):
                await link.call(["SET", "k", "v"])
        os.kill(own_redis.process.pid, signal.SIGCONT)
        async with linked(own_redis.url) as link:
            assert await link.call(["GET", "k"]) is None

    async def test_one_that_nobody_answers_to_fails_in_time(self, tmp_path: Path) -> None:
        async with linked(f"unix://{tmp_path}/none") as link:
            with pytest.raises(LinkFailed):
                await link.call(["PING"])

    @pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+OK\r\n", b"$9999999999999\r\n"])
    async def test_ends_when_the_server_talks_nonsense(self, answer: bytes) -> None:
        async with saying(answer) as url, linked(url, timeout_s=1) as link:
            for _ in range(3):
                try:
                    said = await link.call(["PING"])
                except LinkFailed:
                    continue
                assert said == "OK"  # the first of two answers is one

    async def test_a_server_without_tls_is_not_taken_for_a_secure_one(self) -> None:
        async with saying(b"+OK\r\n") as url, linked(url.replace("redis:", "rediss:"), timeout_s=1) as link:
            with pytest.raises(LinkFailed):
                await link.call(["PING"])


@pytest.mark.asyncio
class TestWhatTheLogTells:
    async def test_why_it_can_not_connect_once_and_when_it_can_again(
        self, own_redis: RedisServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        async with linked(own_redis.url) as link:
            own_redis.stop()
            own_redis.socket.unlink()
            for _ in range(3):
                with pytest.raises(LinkFailed, match=r"^no connection \(No such file or directory\)$"):
                    await link.call(["PING"])
            await asyncio.to_thread(own_redis.start)
            for _ in range(3):
                await link.call(["PING"])

        assert lines(caplog) == [
            "REDIS_URL: no connection (No such file or directory)",
            "REDIS_URL: Redis answers again",
        ]

    @pytest.mark.parametrize(
        ("login", "database", "reply"),
        [
            (":hunter2@", 0, "WRONGPASS invalid username-password pair or user is disabled."),
            ("", 0, "NOAUTH Authentication required."),
            (":sesame@", 99, "ERR DB index is out of range"),
        ],
    )
    async def test_what_redis_answers_to_who_comes(
        self, own_redis: RedisServer, caplog: pytest.LogCaptureFixture, login: str, database: int, reply: str
    ) -> None:
        async with linked(own_redis.url) as link:
            await link.call(["CONFIG", "SET", "requirepass", "sesame"])
        async with linked(f"unix://{login}{own_redis.socket}?db={database}") as link:
            for _ in range(3):
                with pytest.raises(LinkFailed):
                    await link.call(["PING"])

        assert lines(caplog) == [f"REDIS_URL: Redis refuses: {reply}"]

    @pytest.mark.parametrize(
        "answer",
        [b"-ERR unknown command 'AUTH', with args beginning with: 'hunt\\er2' \r\n", b"-ERR what is hunt\\er2?\r\n"],
    )
    async def test_never_the_password_that_a_server_repeats(
        self, caplog: pytest.LogCaptureFixture, answer: bytes
    ) -> None:
        async with saying(answer) as url, linked(url.replace("//", "//:hunt%5Cer2@"), timeout_s=10) as link:
            with pytest.raises(LinkFailed):
                await link.call(["PING"])

        assert len(lines(caplog)) == 1
        assert "er2" not in caplog.text

    async def test_that_it_is_no_redis(self, caplog: pytest.LogCaptureFixture) -> None:
        async with saying(b"HTTP/1.1 400 Bad Request\r\n\r\n") as url, linked(url) as link:
            with pytest.raises(LinkFailed):
                await link.call(["PING"])

        assert lines(caplog) == ["REDIS_URL: it does not answer as Redis does"]

    async def test_that_it_does_not_speak_tls(self, caplog: pytest.LogCaptureFixture) -> None:
        async with saying(b"") as url, linked(url.replace("redis:", "rediss:"), timeout_s=0.2) as link:
            for _ in range(2):  # the first caller may give up a moment before the connection is given up
                with pytest.raises(LinkFailed):
                    await link.call(["PING"])

        assert lines(caplog) == ["REDIS_URL: no answer in time, over TLS"]

    async def test_that_its_host_is_not_there(self, caplog: pytest.LogCaptureFixture) -> None:
        async with linked(f"redis://127.0.0.1:{free_port()}") as link:
            with pytest.raises(LinkFailed):
                await link.call(["PING"])

        assert lines(caplog) == ["REDIS_URL: no connection (Connection refused)"]


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "core.redis_link"]


class TestTlsContext:
    def test_checks_who_answers_unless_the_url_says_otherwise(self) -> None:
        strict = tls_context(parse_url("rediss://h"))
        lax = tls_context(parse_url("rediss://h?ssl_cert_reqs=none&ssl_check_hostname=false"))

        assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert (lax.verify_mode, lax.check_hostname) == (ssl.CERT_NONE, False)


class TestUrls:
    @pytest.mark.parametrize("url", REDIS_URLS)
    def test_what_the_settings_accept_is_no_trouble_for_those_who_connect(self, url: str) -> None:
        url = url.replace("&ssl_ca_certs=/ca.pem", "")  # there is no such file here
        Redis.from_url(url).connection_pool.make_connection()  # type: ignore[no-untyped-call] # redis-py leaves it so
        if url.startswith("rediss:"):
            tls_context(parse_url(url))
        RedisLink(url, timeout_s=1)
