"""A node of the network, and how it is."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class NodeKind(StrEnum):
    """Which protocol a node speaks; told from its own answers, never configured."""

    PETALS = "petals"  # POST /api/v1/generate, one JSON answer whatever `stream` says
    AGENT = "agent"  # plumise-agent: the same path, SSE of {"token"} when asked to stream
    OPENAI = "openai"  # llama-server and its kin: POST /v1/chat/completions and /v1/completions
    RELAY = "relay"  # an agent that has connected to a gateway itself: its frames, over its WebSocket


class Node(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    One node as the last probes saw it; the whole list is shared by all processes as JSON.

    `models` maps the catalogue's ids that the node serves to the node's own names for them.
    """

    url: str  # http(s)://host:port, no trailing slash; relay://<wallet> for an agent that connects to us
    address: str = ""  # the owner's lower-case wallet; "" when it is not known
    kind: NodeKind | None = None  # None until the first good probe
    streams: bool = True  # False: its answers come in one piece, at their end
    models: dict[str, str] = {}
    online: bool = False
    failures: int = 0  # failed probes in a row
    successes: int = 0  # good probes in a row
    last_check: float = 0.0  # unix seconds; 0 when it was never probed
    last_seen: float = 0.0  # unix seconds of the last good probe; 0 when there was none
    latency_ms: float = 0.0  # of good probes, on average; a fifth of it is the last one's
    benchmark_tps: float = 0.0  # tokens a second by its own word, as the Oracle passes it on; 0 when it is not known
    problem: str = ""  # why it is offline, in a few words
