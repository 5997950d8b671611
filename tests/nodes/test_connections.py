"""The HTTP client: framing, limits, keep-alive, and what happens when either side leaves."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_asyncio

from core.nodes.address_guard import AddressGuard
from core.nodes.transport.exchange import HIGH_WATER
from core.nodes.transport.failures import NodeBroken, NodeHungUp, NodeSilent, NodeUnreachable
from core.nodes.transport.origin import Request
from core.nodes.transport.pool import ConnectionPool
from tests.nodes.raw_server import CLOSE, RESET, STALL, raw_server, until
from tests.streams import following_bytes

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ANYWHERE = AddressGuard(allow_private=True)
ASKED = Request("/x", b'{"a": 1}', 100_000)


@pytest_asyncio.fixture
async def pool() -> AsyncIterator[ConnectionPool]:
    opened = ConnectionPool(0.5, guard=ANYWHERE)
    yield opened
    await opened.aclose()
    assert opened.connections == 0


def due(seconds: float = 2.0) -> float:
    return asyncio.get_running_loop().time() + seconds


async def post(pool: ConnectionPool, url: str, request: Request = ASKED) -> bytes:
    """The body of an answer, read to its end."""
    exchange = await pool.post(url, request, due())
    body = await exchange.read(1_000_000, due())
    exchange.release()
    return body


@pytest.mark.asyncio
class TestRequest:
    async def test_it_is_one_plain_post(self, pool: ConnectionPool) -> None:
        async with raw_server([OK]) as server:
            await post(pool, f"{server.url}/base")
            await pool.aclose()

        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        assert lines[0] == "POST /base/x HTTP/1.1"
        assert f"Host: {server.url.removeprefix('http://')}" in lines
        assert "Accept-Encoding: identity" in lines
        assert "Content-Length: 8" in lines
        assert not [line for line in lines if line.startswith("Authorization")]
        assert body == ASKED.body


@pytest.mark.asyncio
class TestFraming:
    @pytest.mark.parametrize(
        "steps",
        [
            [OK],
            [OK[:20], 0.01, OK[20:40], 0.01, OK[40:]],
            [b"HTTP/1.1 100 Continue\r\n\r\n", OK],
            [b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + OK],
            [CHUNKED + b"1\r\no\r\n", 0.01, b"1\r\nk\r\n0\r\n\r\n"],
            [CHUNKED + b"2;ext=1\r\nok\r\n0\r\nTrailer: x\r\n\r\n"],
            [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", CLOSE],
            [b"HTTP/1.0 200 OK\r\n\r\nok", CLOSE],
        ],
        ids=["length", "slow", "continue", "interim", "chunked", "trailer", "until-close", "http-1.0"],
    )
    async def test_every_honest_framing_is_read(self, pool: ConnectionPool, steps: list[bytes | float]) -> None:
        async with raw_server([*steps]) as server:
            assert await post(pool, server.url) == b"ok"
            await pool.aclose()

    @pytest.mark.parametrize(
        "steps",
        [
            [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", CLOSE],
            [CHUNKED + b"2\r\nok\r\n", CLOSE],
            [CHUNKED + b"zz\r\nok\r\n"],
            [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok"],
            [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok"],
            [b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"],
            [b"HTTP/1.1 20", CLOSE],
            [b"SSH-2.0-OpenSSH\r\n"],
            [b"HTTP/1.1 200 OK\r\nX: " + b"y" * 40_000],
            [b"HTTP/1.1 103 Hint\r\nX: y\r\n\r\n" * 2_000],
            [CHUNKED, b"1;" + b"e" * 200_000],
            [CHUNKED + b"0\r\n", b"T: y\r\n" * 40_000],
        ],
        ids=[
            "short",
            "cut",
            "chunk-size",
            "two-lengths",
            "length-and-chunks",
            "upgrade",
            "half-head",
            "ssh",
            "giant-head",
            "interim-flood",
            "chunk-extension",
            "trailers",
        ],
    )
    async def test_every_other_is_refused(self, pool: ConnectionPool, steps: list[bytes | str]) -> None:
        async with raw_server([*steps, STALL]) as server:
            with pytest.raises(NodeBroken):
                await post(pool, server.url)
            await until(lambda: pool.connections == 0)

    async def test_a_body_over_the_limit_is_refused(self, pool: ConnectionPool) -> None:
        async with raw_server([b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n" + b"a" * 3000]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            with pytest.raises(NodeBroken):
                await exchange.read(2999, due())
            exchange.abort()


@pytest.mark.asyncio
class TestKeepAlive:
    @pytest.mark.parametrize("answer", [OK, CHUNKED + b"2\r\nok\r\n0\r\n\r\n"])
    async def test_a_finished_answer_frees_its_connection(self, pool: ConnectionPool, answer: bytes) -> None:
        async with raw_server([answer]) as server:
            for _ in range(3):
                assert await post(pool, server.url) == b"ok"
            assert (server.accepted, pool.connections) == (1, 1)
            await pool.aclose()

    @pytest.mark.parametrize(
        "steps",
        [
            [b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"],
            [OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"],
            [OK, 0.01, b"stray"],
        ],
        ids=["close", "second-answer", "stray-bytes"],
    )
    async def test_a_connection_that_is_not_clean_is_not_used_again(
        self, pool: ConnectionPool, steps: list[bytes | float]
    ) -> None:
        async with raw_server([*steps]) as server:
            for _ in range(2):
                assert await post(pool, server.url) == b"ok"
                await until(lambda: pool.connections == 0)
            assert server.accepted == 2

    @pytest.mark.parametrize("way", [CLOSE, RESET])
    async def test_one_that_the_node_has_dropped_costs_no_failure(self, pool: ConnectionPool, way: str) -> None:
        async with raw_server([OK], [way], [OK]) as server:
            assert [await post(pool, server.url) for _ in range(2)] == [b"ok", b"ok"]
            assert len(server.requests) == 3
            await pool.aclose()

    async def test_the_second_time_it_is_one(self, pool: ConnectionPool) -> None:
        async with raw_server([OK], [CLOSE]) as server:
            await post(pool, server.url)
            with pytest.raises(NodeHungUp):
                await post(pool, server.url)
            assert len(server.requests) == 3

    async def test_after_the_first_byte_nothing_is_sent_again(self, pool: ConnectionPool) -> None:
        async with raw_server([OK], [b"H", CLOSE]) as server:
            await post(pool, server.url)
            with pytest.raises(NodeBroken):
                await post(pool, server.url)
            assert len(server.requests) == 2

    async def test_a_stream_whose_framing_ends_a_little_later_is_kept(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED + b"2\r\nok\r\n", 0.05, b"0\r\n\r\n"]) as server:
            for _ in range(2):
                exchange = await pool.post(server.url, ASKED, due())
                assert await following_bytes(exchange, due()) == b"ok"
                exchange.release()
                await asyncio.sleep(0.1)
            assert server.accepted == 1
            await pool.aclose()

    async def test_one_whose_framing_never_ends_is_not(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED + b"2\r\nok\r\n", STALL]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            await following_bytes(exchange, due())
            exchange.release()
            await until(lambda: pool.connections == 0)

    async def test_idle_ones_are_closed_after_a_while(self) -> None:
        pool = ConnectionPool(0.5, guard=ANYWHERE, idle_s=0.1)
        async with raw_server([OK]) as server:
            await post(pool, server.url)
            await asyncio.sleep(0.06)
            await post(pool, server.url)
            await asyncio.sleep(0.06)
            assert pool.connections == 1
            await until(lambda: pool.connections == 0)

    async def test_origins_do_not_share_connections(self, pool: ConnectionPool) -> None:
        async with raw_server([OK]) as one, raw_server([OK]) as two:
            for server in (one, two, one, two):
                await post(pool, server.url)
            assert (one.accepted, two.accepted) == (1, 1)
            await pool.aclose()


@pytest.mark.asyncio
class TestLeaving:
    async def test_a_cancelled_reader_closes_the_connection(self, pool: ConnectionPool) -> None:
        async with raw_server([STALL]) as server:
            asked = asyncio.create_task(post(pool, server.url))
            await until(lambda: bool(server.requests))
            asked.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asked
            await until(lambda: not server.open and not pool.connections)

    async def test_a_cancelled_connect_leaves_nothing(self, pool: ConnectionPool) -> None:
        async with raw_server([OK]) as server:
            for _ in range(20):
                asked = asyncio.create_task(post(pool, server.url))
                await asyncio.sleep(0)
                asked.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await asked
            await until(lambda: not server.open and not pool.connections)

    async def test_aborting_half_way_never_gives_the_connection_back(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED + b"2\r\nok\r\n", STALL]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            exchange.abort()
            exchange.release()
            exchange.abort()
            await until(lambda: not server.open and not pool.connections)

    @pytest.mark.parametrize("way", [CLOSE, RESET])
    async def test_what_came_before_a_cut_is_read_first(self, pool: ConnectionPool, way: str) -> None:
        async with raw_server([CHUNKED + b"2\r\nok\r\n", 0.02, way]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            await asyncio.sleep(0.05)
            assert await following_bytes(exchange, due()) == b"ok"
            with pytest.raises(NodeBroken):
                await following_bytes(exchange, due())

    async def test_an_answer_that_is_all_there_survives_an_interruption(self, pool: ConnectionPool) -> None:
        async with raw_server([OK]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            pool.interrupt(RuntimeError("enough"))
            assert await exchange.read(9, due()) == b"ok"
            exchange.abort()

    async def test_an_interruption_reaches_running_and_later_exchanges(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED + b"2\r\nok\r\n", STALL]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            pool.interrupt(RuntimeError("enough"))
            with pytest.raises(RuntimeError, match="enough"):
                await following_bytes(exchange, due())
            with pytest.raises(RuntimeError, match="enough"):
                await pool.post(server.url, ASKED, due())


@pytest.mark.asyncio
class TestTime:
    async def test_a_silent_node_is_left_at_the_deadline(self, pool: ConnectionPool) -> None:
        async with raw_server([STALL]) as server:
            began = due(0)
            with pytest.raises(NodeSilent):
                await pool.post(server.url, ASKED, began + 0.1)
            assert 0.09 <= due(0) - began < 1
            await until(lambda: not server.open)

    async def test_a_later_deadline_takes_the_place_of_an_earlier_one(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED, 0.6, b"2\r\nok\r\n", 0.3, b"2\r\nko\r\n0\r\n\r\n"]) as server:
            exchange = await pool.post(server.url, ASKED, due(0.5))
            assert await following_bytes(exchange, due(3)) == b"ok"
            with pytest.raises(NodeSilent):
                await following_bytes(exchange, due(0.05))
        assert pool.connections == 0

    async def test_refused_connections_are_told_at_once(self, pool: ConnectionPool) -> None:
        async with raw_server([OK]) as server:
            url = server.url
        with pytest.raises(NodeUnreachable):
            await post(pool, url)

    @pytest.mark.parametrize("url", ["http://no-such-host.invalid:1", f"http://{'x' * 70}.example"])
    async def test_a_name_that_leads_nowhere_is_unreachable(self, pool: ConnectionPool, url: str) -> None:
        with pytest.raises(NodeUnreachable):
            await post(pool, url)

    async def test_a_host_that_never_answers_is_left_at_the_connect_timeout(self) -> None:
        pool = ConnectionPool(0.1, guard=ANYWHERE)
        with deaf_port() as port, pytest.raises(NodeUnreachable):
            await post(pool, f"http://127.0.0.1:{port}")


@pytest.mark.asyncio
class TestBackPressure:
    async def test_the_node_waits_for_its_reader(self, pool: ConnectionPool) -> None:
        block = b"%x\r\n%s\r\n" % (50_000, b"a" * 50_000)
        async with raw_server([CHUNKED, *[block] * 400, b"0\r\n\r\n"]) as server:
            exchange = await pool.post(server.url, Request("/x", b"{}", 30_000_000), due())
            await asyncio.sleep(0.2)
            assert exchange._size < HIGH_WATER + 300_000
            size = 0
            while chunk := await following_bytes(exchange, due()):
                size += len(chunk)
            exchange.release()
            assert size == 400 * 50_000
            assert pool.connections == 1
            await pool.aclose()
        assert server.accepted == 1

    async def test_a_connection_that_waited_for_its_reader_serves_the_next_request(self, pool: ConnectionPool) -> None:
        long = b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n" + b"a" * 90_000
        async with raw_server([long], [OK]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            await asyncio.sleep(0.1)
            exchange.release()
            await asyncio.sleep(0.1)
            assert await post(pool, server.url) == b"ok"
            assert server.accepted == 1
            await pool.aclose()

    async def test_an_endless_answer_ends_at_its_limit_though_nobody_reads(self, pool: ConnectionPool) -> None:
        async with raw_server([CHUNKED, *[b"%x\r\n%s\r\n" % (9_000, b"a" * 9_000)] * 2_000, STALL]) as server:
            exchange = await pool.post(server.url, ASKED, due())
            await asyncio.sleep(0.05)
            with pytest.raises(NodeBroken):
                await exchange.read(10**9, due())
            await until(lambda: not server.open)


@pytest.mark.asyncio
class TestTls:
    async def test_https_nodes_are_reached_and_kept(self, tmp_path: Path) -> None:
        server_side, client_side = certified(tmp_path)
        pool = ConnectionPool(2.0, guard=ANYWHERE, tls=client_side)
        async with raw_server([OK], tls=server_side) as server:
            for _ in range(3):
                assert await post(pool, server.url) == b"ok"
            assert server.accepted == 1
            await pool.aclose()

    async def test_a_certificate_that_nobody_vouches_for_is_unreachable(self, tmp_path: Path) -> None:
        server_side, _ = certified(tmp_path)
        pool = ConnectionPool(2.0, guard=ANYWHERE)
        async with raw_server([OK], tls=server_side) as server:
            with pytest.raises(NodeUnreachable):
                await post(pool, server.url)
            assert server.requests == []


@contextmanager
def deaf_port() -> Iterator[int]:
    """A port whose queue of connections is full: the kernel answers nobody."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def certified(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate for 127.0.0.1, and a client's that trusts it."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl makes the certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    options = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=node"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([openssl, *options.split(), *files], check=True, capture_output=True)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate, key)
    return server, ssl.create_default_context(cafile=str(certificate))
