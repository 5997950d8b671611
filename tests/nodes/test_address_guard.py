"""Where nodes may be: the table of URLs, names whose addresses change, and a canary that nobody may reach."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from bench.ports import free_port
from core.nodes.address_guard import AddressGuard, RefusedAddress
from core.nodes.node_url import InvalidUrl, parse
from core.nodes.probe_sessions import open_probe_sessions
from core.nodes.public_addresses import is_public
from core.nodes.transport.failures import NodeUnreachable
from core.nodes.transport.origin import Request
from core.nodes.transport.pool import ConnectionPool
from tests.nodes.raw_server import CLOSE, RawServer, raw_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ASKED = Request("/x", b"{}", 1000)
INVALID, REFUSED = "invalid", "refused"

# A URL as the Oracle may name it → its normal form, or how it is turned down.
URLS = [
    # plain ones
    ("http://8.8.8.8", "http://8.8.8.8"),
    ("http://8.8.8.8/", "http://8.8.8.8"),
    ("http://8.8.8.8:80", "http://8.8.8.8"),
    ("https://8.8.8.8:443/", "https://8.8.8.8"),
    ("http://8.8.8.8:443", "http://8.8.8.8:443"),
    ("http://8.8.8.8:31331", "http://8.8.8.8:31331"),
    ("http://8.8.8.8:031331", INVALID),
    ("HTTPS://Node.Example.COM:31331/Base/", "https://node.example.com:31331/Base"),
    ("http://node.example.com.", "http://node.example.com"),
    ("http://node_1.example.com", "http://node_1.example.com"),
    ("http://node.example.com?x=1", "http://node.example.com"),
    ("http://node.example.com/a?x=1#y", "http://node.example.com/a"),
    ("http://node.example.com/길", "http://node.example.com/%EA%B8%B8"),
    ("http://node.example.com/%2e%2e/x", "http://node.example.com/%2e%2e/x"),
    ("http://münchen.example.com", "http://xn--mnchen-3ya.example.com"),
    ("http://ＮＯＤＥ.example.com", "http://node.example.com"),
    ("http://node。example。com", "http://node.example.com"),
    ("http://[2606:4700::1111]:8080", "http://[2606:4700::1111]:8080"),
    ("http://[2606:4700:0:0:0:0:0:1111]", "http://[2606:4700::1111]"),
    # other spellings of public IPv4
    ("http://134744072", "http://8.8.8.8"),
    ("http://0x08080808", "http://8.8.8.8"),
    ("http://010.8.8.8", "http://8.8.8.8"),
    ("http://8.8.2056", "http://8.8.8.8"),
    ("http://[::ffff:8.8.8.8]:31331", "http://8.8.8.8:31331"),
    ("http://[::ffff:808:808]", "http://8.8.8.8"),
    # other schemes, and none
    ("ftp://8.8.8.8", INVALID),
    ("file:" + "///etc/passwd", INVALID),  # in two parts: see the test of what no file may name
    ("gopher://8.8.8.8:6379/_x", INVALID),
    ("ws://8.8.8.8", INVALID),
    ("unix:///run/redis.sock", INVALID),
    ("javascript:alert(1)", INVALID),
    ("8.8.8.8:31331", INVALID),
    ("//8.8.8.8", INVALID),
    ("http:8.8.8.8", INVALID),
    ("http:/8.8.8.8", INVALID),
    ("http://", INVALID),
    ("http:///path", INVALID),
    ("", INVALID),
    # what parsers read differently
    ("http://8.8.8.8\\@127.0.0.1", INVALID),
    ("http:\\\\127.0.0.1", INVALID),
    ("http://8.8.8.8 .example.com", INVALID),
    (" http://8.8.8.8", INVALID),
    ("http://8.8.8.8\n", INVALID),
    ("http://8.8.8.8\t:80", INVALID),
    ("http://8.8.8.8/\r\nHost: x", INVALID),
    ("http://8.8.8.8\x00.example.com", INVALID),
    ("http://8.8.8.8\u2028", INVALID),
    ("http://8.8.8.8\u00a0", INVALID),
    ("http://node%2eexample.com", INVALID),
    ("http://[8.8.8.8]", INVALID),
    ("http://[::1", INVALID),
    ("http://::1", INVALID),
    ("http://[::1]8.8.8.8", INVALID),
    ("http://8.8.8.8[::1]", INVALID),
    ("http://[fe80::1%25eth0]", INVALID),
    ("http://node..example.com", INVALID),
    ("http://.example.com", INVALID),
    ("http://node.example.com..", INVALID),
    ("http://no<de.example.com", INVALID),
    (f"http://{'a' * 64}.example.com", INVALID),
    (f"http://{'a.' * 130}com", INVALID),
    (f"http://8.8.8.8/{'a' * 600}", INVALID),
    ("http://8.8.8.8:x", INVALID),
    ("http://8.8.8.8:-1", INVALID),
    ("http://8.8.8.8:0", INVALID),
    ("http://8.8.8.8:65536", INVALID),
    ("http://8.8.8.8:８０", INVALID),
    ("http://256.1.1.1", INVALID),
    ("http://08.8.8.8", INVALID),
    ("http://1.2.3.4.5", INVALID),
    ("http://4294967296", INVALID),
    ("http://1.example.2", INVALID),
    ("http://8.8.8.8?@127.0.0.1", "http://8.8.8.8"),
    ("http://8.8.8.8#@127.0.0.1", "http://8.8.8.8"),
    # credentials
    ("http://user@8.8.8.8", REFUSED),
    ("http://user:secret@8.8.8.8", REFUSED),
    ("http://8.8.8.8@127.0.0.1", REFUSED),
    ("http://:@8.8.8.8", REFUSED),
    # ports
    ("http://8.8.8.8:22", REFUSED),
    ("http://8.8.8.8:25", REFUSED),
    ("http://8.8.8.8:1023", REFUSED),
    ("http://8.8.8.8:2375", REFUSED),
    ("http://8.8.8.8:2379", REFUSED),
    ("http://8.8.8.8:3306", REFUSED),
    ("http://8.8.8.8:5432", REFUSED),
    ("http://8.8.8.8:6379", REFUSED),
    ("http://8.8.8.8:9200", REFUSED),
    ("http://8.8.8.8:11211", REFUSED),
    ("http://node.example.com:27017", REFUSED),
    ("http://8.8.8.8:1024", "http://8.8.8.8:1024"),
    ("http://8.8.8.8:65535", "http://8.8.8.8:65535"),
    # local names
    ("http://localhost:31331", REFUSED),
    ("http://LOCALHOST.:31331", REFUSED),
    ("http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", REFUSED),
    ("http://redis", REFUSED),
    ("http://x.localhost", REFUSED),
    ("http://printer.local", REFUSED),
    ("http://metadata.google.internal", REFUSED),
    # addresses that are not public, in all spellings
    ("http://127.0.0.1", REFUSED),
    ("http://127.1", REFUSED),
    ("http://2130706433", REFUSED),
    ("http://0x7f000001", REFUSED),
    ("http://017700000001", REFUSED),
    ("http://0177.0.0.1", REFUSED),
    ("http://0x7f.0x0.0x0.0x1", REFUSED),
    ("http://１２７.0.0.1", REFUSED),
    ("http://127。0。0。1", REFUSED),
    ("http://0", REFUSED),
    ("http://0.0.0.0", REFUSED),
    ("http://10.0.0.1", REFUSED),
    ("http://172.16.0.1", REFUSED),
    ("http://172.31.255.255", REFUSED),
    ("http://192.168.0.1", REFUSED),
    ("http://169.254.169.254/latest/meta-data", REFUSED),
    ("http://2852039166", REFUSED),
    ("http://100.64.0.1", REFUSED),
    ("http://100.100.100.200", REFUSED),
    ("http://168.63.129.16", REFUSED),
    ("http://192.0.0.192", REFUSED),
    ("http://192.0.2.1", REFUSED),
    ("http://198.18.0.1", REFUSED),
    ("http://198.51.100.1", REFUSED),
    ("http://203.0.113.1", REFUSED),
    ("http://192.88.99.1", REFUSED),
    ("http://224.0.0.1", REFUSED),
    ("http://240.0.0.1", REFUSED),
    ("http://255.255.255.255", REFUSED),
    ("http://[::1]", REFUSED),
    ("http://[::]", REFUSED),
    ("http://[::ffff:127.0.0.1]", REFUSED),
    ("http://[::ffff:a9fe:a9fe]", REFUSED),
    ("http://[::127.0.0.1]", REFUSED),
    ("http://[64:ff9b::7f00:1]", REFUSED),
    ("http://[64:ff9b:1::8.8.8.8]", REFUSED),
    ("http://[2002:7f00:1::]", REFUSED),
    ("http://[2001:0:7f00:1::]", REFUSED),
    ("http://[fe80::1]", REFUSED),
    ("http://[fec0::1]", REFUSED),
    ("http://[fc00::1]", REFUSED),
    ("http://[fd00:ec2::254]", REFUSED),
    ("http://[ff02::1]", REFUSED),
    ("http://[2001:db8::1]", REFUSED),
    ("http://[3fff::1]", REFUSED),
    ("http://[100::1]", REFUSED),
]


def judged(url: str, guard: AddressGuard) -> str:
    """What becomes of a URL that the Oracle names."""
    try:
        parsed = parse(url)
        guard.check(parsed)
    except InvalidUrl:
        return INVALID
    except RefusedAddress:
        return REFUSED
    return str(parsed)


class TestUrls:
    @pytest.mark.parametrize(("url", "expected"), URLS, ids=[ascii(url)[:60] for url, _ in URLS])
    def test_a_url_has_one_form_or_none(self, url: str, expected: str) -> None:
        assert judged(url, AddressGuard()) == expected

    def test_the_table_is_long_enough(self) -> None:
        assert len({url for url, _ in URLS}) == len(URLS) >= 120

    @pytest.mark.parametrize("url", [expected for _, expected in URLS if expected not in (INVALID, REFUSED)])
    def test_the_normal_form_is_final(self, url: str) -> None:
        assert judged(url, AddressGuard()) == url

    @pytest.mark.parametrize("url", ["http://127.0.0.1:31331", "http://[::1]:31331", "http://localhost:31331"])
    def test_test_networks_may_allow_private_addresses_but_never_odd_ports(self, url: str) -> None:
        guard = AddressGuard(allow_private=True)

        assert judged(url, guard) == url
        assert judged(url.replace("31331", "6379"), guard) == REFUSED

    def test_neither_complaint_repeats_the_url(self) -> None:
        complaints = set[str]()
        for url in (
            "http://s3cret@8.8.8.8",
            "s3cret://x",
            "http://s3cret%00",
            "http://s3cret",
            "http://8.8.8.8:22/s3cret",
        ):
            with pytest.raises((InvalidUrl, RefusedAddress)) as problem:
                AddressGuard().check(parse(url))
            complaints.add(str(problem.value))

        assert len(complaints) == 5
        assert not [text for text in complaints if "s3cret" in text]

    def test_an_operators_node_is_trusted_in_any_spelling(self) -> None:
        guard = AddressGuard(["HTTP://10.0.0.5:31331/"])

        assert guard.trusts("http://10.0.0.5:31331")
        assert not guard.trusts("http://10.0.0.5:31331/elsewhere")


class TestAddresses:
    @pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1", "2a00::1"])
    def test_public_ones(self, address: str) -> None:
        assert is_public(address)

    @pytest.mark.parametrize("address", ["::ffff:10.0.0.1", "fe80::1%1", "64:ff9b::808:808", "2002:808:808::1"])
    def test_others(self, address: str) -> None:
        assert not is_public(address)


@dataclass
class RebindingDns:
    """Answers each question with the next list of addresses; the last one repeats."""

    answers: Sequence[Sequence[str]]
    asked: int = 0

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked += 1
        return list(self.answers[min(self.asked, len(self.answers)) - 1])


class SecondLoopback(AddressGuard):
    """127.0.0.2 stands for the public internet, everything else of the machine for what is private."""

    def permits(self, address: str, port: int) -> bool:
        return address == "127.0.0.2"


@asynccontextmanager
async def canary(port: int) -> AsyncIterator[RawServer]:
    """Listens on 127.0.0.1, at the port at which the good node listens on 127.0.0.2."""
    raw = RawServer([[OK]])
    server = await asyncio.start_server(raw.serve, "127.0.0.1", port)
    yield raw
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def node_and_canary() -> AsyncIterator[tuple[RawServer, RawServer, int]]:
    """A good node at 127.0.0.2, the canary, and their port."""
    node, port = RawServer([[OK, CLOSE]]), free_port()
    server = await asyncio.start_server(node.serve, "127.0.0.2", port)
    async with canary(port) as bird:
        yield node, bird, port
    server.close()
    await server.wait_closed()


REBINDING = [
    [["127.0.0.1"]],
    [["127.0.0.2"], ["127.0.0.1"]],
    [["127.0.0.2", "127.0.0.1"]],
    [["127.0.0.1", "127.0.0.2"]],
    [["127.0.0.2"], ["::ffff:127.0.0.1"]],
    [["127.0.0.2"], ["0.0.0.0"]],
    [["127.0.0.2"], ["::1"]],
    [[]],
]


@pytest.mark.asyncio
class TestRebinding:
    @pytest.mark.parametrize("answers", REBINDING, ids=str)
    async def test_no_request_reaches_the_canary(self, answers: list[list[str]]) -> None:
        async with node_and_canary() as (node, bird, port):
            dns = RebindingDns(answers)
            pool = ConnectionPool(1.0, guard=SecondLoopback(resolve=dns), secret="s3cret")
            served = 0
            for _ in range(4):
                try:
                    exchange = await pool.post(
                        f"http://node.example.com:{port}", ASKED, asyncio.get_running_loop().time() + 2
                    )
                    served += await exchange.read(10, asyncio.get_running_loop().time() + 2) == b"ok"
                except NodeUnreachable:
                    pass
                await pool.aclose()

        assert (bird.accepted, dns.asked) == (0, 4)
        assert served == node.accepted == (answers[0] == ["127.0.0.2"])
        assert not [request for request in node.requests if b"s3cret" in request]
        assert all(f"Host: node.example.com:{port}\r\n".encode() in request for request in node.requests)

    @pytest.mark.parametrize("answers", REBINDING, ids=str)
    async def test_no_probe_reaches_the_canary(self, answers: list[list[str]]) -> None:
        async with node_and_canary() as (node, bird, port):
            dns, served = RebindingDns(answers), 0
            async with open_probe_sessions(SecondLoopback(resolve=dns), "s3cret") as sessions:
                for _ in range(4):
                    url = f"http://node.example.com:{port}"
                    try:
                        async with sessions.session_for(url).get(url) as answer:
                            served += await answer.read() == b"ok"
                    except OSError:
                        pass

        assert (bird.accepted, dns.asked) == (0, 4)
        assert served == node.accepted == (answers[0] == ["127.0.0.2"])
        assert not [request for request in node.requests if b"s3cret" in request]

    @pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "[::ffff:127.0.0.1]", "localhost", "127.1"])
    async def test_no_literal_address_reaches_the_canary(self, host: str) -> None:
        async with raw_server([OK]) as bird:
            url = f"http://{host}:{bird.url.rpartition(':')[2]}"
            pool = ConnectionPool(1.0)
            with pytest.raises(NodeUnreachable):
                await pool.post(url, ASKED, asyncio.get_running_loop().time() + 2)
            async with open_probe_sessions(AddressGuard(), None) as sessions:
                for spelling in (url, str(parse(url))):
                    with pytest.raises((OSError, ValueError)):
                        await sessions.session_for(spelling).get(spelling)

        assert bird.accepted == 0


@pytest.mark.asyncio
class TestTrust:
    async def test_the_operators_nodes_may_be_private_and_get_the_secret(self) -> None:
        async with raw_server([OK]) as node:
            guard = AddressGuard([node.url])
            pool = ConnectionPool(1.0, guard=guard, secret="s3cret")
            await pool.post(node.url, ASKED, asyncio.get_running_loop().time() + 2)
            await pool.aclose()
            async with open_probe_sessions(guard, "s3cret") as sessions:
                await sessions.session_for(node.url).get(node.url)

        assert [b"Bearer s3cret" in request for request in node.requests] == [True, True]

    async def test_others_never_get_it_nor_a_connection_of_the_operators_nodes(self) -> None:
        async with raw_server([OK]) as node:
            pool = ConnectionPool(1.0, guard=AddressGuard([node.url]), secret="s3cret")
            until = asyncio.get_running_loop().time() + 2
            exchange = await pool.post(node.url, ASKED, until)
            await exchange.read(10, until)
            exchange.release()
            with pytest.raises(NodeUnreachable):
                await pool.post(f"{node.url}/elsewhere", ASKED, until)
            await pool.aclose()
            pool = ConnectionPool(1.0, guard=AddressGuard(allow_private=True), secret="s3cret")
            await pool.post(node.url, ASKED, until)
            await pool.aclose()
            async with open_probe_sessions(AddressGuard(allow_private=True), "s3cret") as sessions:
                await sessions.session_for(node.url).get(node.url)

        assert [b"s3cret" in request for request in node.requests] == [True, False, False]

    async def test_the_machines_own_resolver_is_asked_for_names(self) -> None:
        async with raw_server([OK]) as node:
            url = node.url.replace("127.0.0.1", "localhost")
            pool = ConnectionPool(1.0, guard=AddressGuard([url]))
            await pool.post(url, ASKED, asyncio.get_running_loop().time() + 2)
            await pool.aclose()

        assert node.accepted == 1

    async def test_the_next_address_of_a_name_is_tried_when_one_refuses(self) -> None:
        async with raw_server([OK]) as node:
            port = int(node.url.rpartition(":")[2])
            dns = RebindingDns([["127.0.0.3", "127.0.0.1"]])
            pool = ConnectionPool(1.0, guard=AddressGuard(allow_private=True, resolve=dns))
            await pool.post(f"http://node.example.com:{port}", ASKED, asyncio.get_running_loop().time() + 2)
            await pool.aclose()

        assert node.accepted == 1
