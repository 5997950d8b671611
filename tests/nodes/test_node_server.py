"""The scripted node as its own process, as the end-to-end tests use it."""

from __future__ import annotations

import asyncio
import sys

import aiohttp
import pytest


@pytest.mark.asyncio
async def test_it_serves_tells_what_it_saw_and_takes_a_new_script() -> None:
    process = await asyncio.create_subprocess_exec(
        *[sys.executable, "-m", "tests.fakes.node_server", "--kind", "agent", "--answer", "Hi"],
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        url = (await process.stdout.readline()).decode().strip()
        async with aiohttp.ClientSession(url) as client:
            answer = await (await client.post("/api/v1/generate", json={"inputs": "x"})).json()
            assert answer == {"generated_text": "Hi", "num_tokens": 1}
            await client.post("/_script", json={"answers": ["Bye"], "fault": "500"})
            assert (await client.post("/api/v1/generate", json={"inputs": "x"})).status == 500
            state = await (await client.get("/_state")).json()
    finally:
        process.terminate()
        code = await process.wait()

    assert [seen["body"] for seen in state["requests"]] == [{"inputs": "x"}] * 2
    assert (state["working"], state["left"], code) == (0, 0, 0)
