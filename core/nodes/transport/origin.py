"""Where a node's URL leads, and the request heads that go there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import msgspec

from core.nodes.node_url import parse

HEAD = (
    "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: plumise-inference-api\r\n"
    "Accept: application/json, text/event-stream\r\nAccept-Encoding: identity\r\n"
    "Content-Type: application/json\r\n{authorization}Content-Length: "
)


class Request(msgspec.Struct, frozen=True, gc=False):
    """What is sent to a node, and how many bytes its answer's body may have."""

    path: str
    body: bytes  # JSON
    limit: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What a connection is made to; requests to an equal one share connections."""

    host: str
    port: int
    tls: bool
    trusted: bool  # the operator named it: it may be anywhere, so its connections are not for others


@dataclass(frozen=True, slots=True)
class Target:
    """One path of one node, with its request head up to the length of the body."""

    origin: Origin
    head: bytes


@lru_cache(maxsize=4096)
def target(url: str, path: str, secret: str | None, *, trusted: bool) -> Target:
    """
    The target of a path under a node's URL; `secret` is sent as a bearer token (RFC 6750) to trusted nodes only.

    Raises InvalidUrl.
    """
    node = parse(url)
    head = HEAD.format(
        path=node.path + path,
        host=node.authority,
        authorization=f"Authorization: Bearer {secret}\r\n" if secret and trusted else "",
    )
    return Target(Origin(node.host, node.port, node.scheme == "https", trusted), head.encode("latin-1"))
