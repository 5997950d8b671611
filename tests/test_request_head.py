"""A request's head is taken if a slow reader, who goes by RFC 9112 line by line, takes it too."""

from __future__ import annotations

import string

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from blueprints.request_head import is_sound

TOKEN = frozenset(b"!#$%&'*+-.^_`|~" + (string.ascii_letters + string.digits).encode())
VISIBLE = frozenset(range(0x21, 0x7F))
TEXT = VISIBLE | frozenset(b" \t") | frozenset(range(0x80, 0x100))
HOST = frozenset(b"-._~%!$&'()*+,;=:[]" + (string.ascii_letters + string.digits).encode())
GOOD = b"POST /v1/models?a=b HTTP/1.1\r\nHost: api.example:8000\r\nX-Empty:\r\nContent-Length: 12"
NAMES = [b"Host", b"hOST", b"Content-Length", b"Transfer-Encoding", b"X", b"Content-Lengt\xc8", b"", b"A B"]
VALUES = [b"x", b"h.example:1", b"[::1]", b"a@b", b"0", b"12", b"+5", b"5, 5", b"\xd9\xa0", b"0x1", b"chunked", b"gzip"]
ENDS = [b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"\r\n "]
SEPARATORS = [b":", b": ", b":\t", b" :", b"\t:", b"\0:", b": \x0b", b":\xe2\x80\x83", b""]
FIRST_LINES = [
    b"GET / HTTP/1.1",
    b"POST /a HTTP/1.0",
    b"GET / HTTP/1.2",
    b"GET  / HTTP/1.1",
    b"G\xff / HTTP/1.1",
    b"GET /",
]


def slow_reader_takes(head: bytes) -> bool:
    """What `is_sound` promises, one line after the other."""
    first, *lines = head.split(b"\r\n")
    parts = first.split(b" ")
    if len(parts) != 3 or not all(parts) or not set(parts[0]) <= TOKEN or not set(parts[1]) <= VISIBLE:
        return False
    if parts[2] not in (b"HTTP/1.0", b"HTTP/1.1"):
        return False
    values: dict[bytes, list[bytes]] = {b"host": [], b"content-length": [], b"transfer-encoding": []}
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not name or not set(name) <= TOKEN or not set(value) <= TEXT:
            return False
        values.get(name.lower(), []).append(value.strip(b" \t"))
    hosts, lengths, codings = values.values()
    return (
        all(set(host) <= HOST for host in hosts)
        and all(length and set(length) <= set(b"0123456789") for length in lengths)
        and all(coding == b"chunked" for coding in codings)
        and len(hosts) <= 1
        and len(lengths + codings) <= 1
        and (len(hosts) == 1 if parts[2] == b"HTTP/1.1" else not codings)
    )


def changed(head: bytes, at: int, cut: int, put: bytes) -> bytes:
    """The head with some bytes in the place of others."""
    at %= len(head) + 1
    return head[:at] + put + head[at + cut :]


lines = st.tuples(*(st.sampled_from(pool) for pool in (ENDS, NAMES, SEPARATORS, VALUES))).map(b"".join)
composed = st.tuples(st.sampled_from(FIRST_LINES), st.lists(lines, max_size=5).map(b"".join)).map(b"".join)
slightly_changed = st.builds(changed, st.just(GOOD), st.integers(0, 99), st.integers(0, 2), st.binary(max_size=2))


@given(st.one_of(composed, slightly_changed, st.binary(max_size=60)))
@example(GOOD)
@example(GOOD + b"\n")
@example(b"GET / HTTP/1.0")
@example(b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked")
@example(b"GET / HTTP/1.1\r\nHost:\r\nTransfer-Encoding: chunked \t")
def test_a_head_is_sound_when_the_slow_reader_takes_it(head: bytes) -> None:
    assert is_sound(head) == slow_reader_takes(head)


@pytest.mark.parametrize("at", ["method", "target", "name", "value", "host", "length"])
def test_each_byte_is_taken_only_where_it_may_stand(at: str) -> None:
    head = {"method": b"M", "target": b"/", "name": b"N", "value": b"v", "host": b"h", "length": b"1"}
    form = b"%(method)b %(target)b HTTP/1.1\r\nHost: %(host)b\r\nContent-Length: %(length)b\r\n%(name)b: %(value)b"

    for byte in range(256):
        parts = head | {at: head[at] + bytes([byte]) + head[at]}
        made = form % {name.encode(): part for name, part in parts.items()}
        assert is_sound(made) == slow_reader_takes(made), made


@pytest.mark.parametrize(
    "head",
    [
        GOOD,
        b"GET / HTTP/1.0",
        b"GET * HTTP/1.1\r\nhost: [::1]:8080",
        b"GET http://x/?q={} HTTP/1.1\r\nHost:x",
        "GET / HTTP/1.1\r\nHost: x\r\nCookie: ключ=\t값".encode(),
    ],
)
def test_an_ordinary_head_is_sound(head: bytes) -> None:
    assert is_sound(head)
