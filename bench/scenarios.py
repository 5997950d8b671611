"""The scenarios: what the load client asks for, and how fast the mock node gives it."""

from __future__ import annotations

import json
from dataclasses import dataclass

MODEL = "bigscience/bloom-560m"
TOKENS = 128


@dataclass(frozen=True)
class Scenario:
    """
    `mode` is the load client's; `rate` in tokens a second and stream, 0 for full speed. The mock node is one of
    OpenAI's type, or a plumise-agent.
    """

    name: str
    title: str
    mode: str
    connections: int
    rate: int = 0
    warm_s: float = 1.0
    is_agent: bool = False

    def body(self) -> str:
        """What each request carries."""
        asked = {"model": MODEL, "messages": [{"role": "user", "content": "What is a wallet?"}], "max_tokens": TOKENS}
        streams = {"stream": True} if self.mode == "sse" else {}
        return json.dumps({**asked, **streams})


# A paced answer lasts TOKENS / rate = 2.56 s: the connections open over that time, so that they do not end together.
SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("json", "JSON answer, CPU µs a request", "json", 64),
        Scenario("fast", "64 streams at full speed, CPU µs a chunk", "sse", 64),
        Scenario("paced", "500 streams at 50 tokens/s, CPU µs a chunk", "sse", 500, 50, warm_s=5.12),
        Scenario("agent-json", "JSON answer of an agent, CPU µs a request", "json", 64, is_agent=True),
        Scenario("agent-fast", "64 streams of an agent at full speed, CPU µs a chunk", "sse", 64, is_agent=True),
        Scenario("sio-fast", "Socket.IO, 64 at full speed, CPU µs a chunk", "sio", 64),
        Scenario("sio-paced", "Socket.IO, 200 at 50 tokens/s, CPU µs a chunk", "sio", 200, 50, warm_s=5.12),
    )
}
STREAMS = ("fast", "paced")
HTTP = ("json", *STREAMS)
AGENT = ("agent-json", "agent-fast")  # in the agents' own protocol, which only the gateway speaks
SOCKET = ("sio-fast", "sio-paced")
