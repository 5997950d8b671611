"""Answers over Socket.IO whose links drop at random places: the text is whole, and counted once."""

from __future__ import annotations

import json
import statistics
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from core import redis_keys
from tests.e2e.conftest import gateway_with
from tests.e2e.js_clients import NODE, SCRIPTS
from tests.e2e.network import AGENT, Network
from tests.e2e.server import GatewayServer
from tests.e2e.wallet import sign_in

TOKENS = [f"{number}번째 조각 " for number in range(150)]


@pytest.fixture
def gateway(running_nodes: Network, redis_url: str) -> Iterator[GatewayServer]:
    """Two workers, and a Redis that a test can look into."""
    with gateway_with(running_nodes.urls, REDIS_URL=redis_url, FREE_TIER_LIMIT="100000") as server:
        yield server


def resumed(url: str, token: str, count: int) -> list[dict[str, Any]]:
    """What became of answers whose links were dropped: text, end, and the milliseconds that each resume took."""
    argument = json.dumps({"url": url, "token": token, "model": AGENT, "from": 0, "to": count, "at_once": 4})
    ended = subprocess.run([NODE, SCRIPTS / "resume.mjs", argument], capture_output=True, timeout=1800, check=True)
    return [json.loads(line) for line in ended.stdout.splitlines()]


class TestLinksThatDrop:
    def test_every_text_is_whole_and_counted_once(self, gateway: GatewayServer, nodes: Network, redis_url: str) -> None:
        self.drop_and_resume(gateway, nodes, redis_url, 25)

    @pytest.mark.long
    def test_the_same_many_times(self, gateway: GatewayServer, nodes: Network, redis_url: str) -> None:
        self.drop_and_resume(gateway, nodes, redis_url, 1000)

    def drop_and_resume(self, gateway: GatewayServer, nodes: Network, redis_url: str, count: int) -> None:
        nodes.agent.answers, nodes.agent.delay_s = (TOKENS,), 0.002

        told = resumed(gateway.url, sign_in(gateway.url), count)

        assert [one for one in told if "problem" in one] == []
        assert {one["complete"]["status"] for one in told} == {"done"}
        assert {one["text"] for one in told} == {"".join(TOKENS)}
        assert {one["complete"]["usage"]["completion_tokens"] for one in told} == {len(TOKENS)}
        assert len({one["complete"]["id"] for one in told}) == count
        resumes = [took for one in told for took in one["resumes"]]
        print(f"{len(resumes)} resumes: {statistics.median(resumes):.1f} ms median, {max(resumes):.0f} ms at most")
        assert len(resumes) > count
        with redis.Redis.from_url(redis_url, decode_responses=True) as client:
            totals: dict[str, str] = client.hgetall(redis_keys.TOTALS)
        assert (int(totals["answers"]), int(totals["completion_tokens"])) == (count, count * len(TOKENS))
        assert " ERROR " not in gateway.log()
