"""The peers by name, and what each is measured in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from bench import relays
from bench.gateway import gateway, paying
from bench.peer import Start
from bench.scenarios import AGENT, HTTP, SOCKET, STREAMS


@dataclass(frozen=True)
class Contender:
    """How a peer is started, and the scenarios that it knows."""

    start: Start
    scenarios: tuple[str, ...] = HTTP


PEERS = {
    "gateway": Contender(gateway, (*HTTP, *AGENT, *SOCKET)),
    "gateway-pro": Contender(paying),
    "bare": Contender(relays.bare),
    "nginx": Contender(relays.nginx),
    "vllm-router": Contender(relays.vllm_router),
    "sglang-router": Contender(relays.sglang_router),
    "litellm": Contender(relays.litellm, ("json",)),
    "socketio-node": Contender(relays.socketio_node, SOCKET),
    "socketio-python": Contender(relays.socketio_python, SOCKET),
    "floor-bytes": Contender(partial(relays.floor, "bytes")),
    "floor-events": Contender(partial(relays.floor, "events"), STREAMS),
    "floor-web": Contender(partial(relays.floor, "web"), ("json",)),
}
