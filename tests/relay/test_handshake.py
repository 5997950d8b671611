"""The first message of an agent: what may be in it, before and besides its signature."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from typing import Any

import pytest

from core.auth.used_signatures import UsedSignatures
from core.clock import SystemClock
from core.nodes.relay.directory import MAX_MODEL
from core.nodes.relay.handshake import MAX_MESSAGE, Handshake, Refused
from core.store import Store
from tests.fakes.relay_agent import auth_message
from tests.fakes.wallet import Wallet

MISSING, UNEXPECTED = (4003, "Missing auth fields"), (4002, "Expected auth message")


@pytest.fixture
def handshake(store: Store) -> Handshake:
    return Handshake(UsedSignatures(store), SystemClock(), None)


def signed(model: str = "m", timestamp: int | None = None, more: Mapping[str, Any] = {}) -> str:
    """A message of a new wallet, to which `more` was done after it was signed."""
    return json.dumps({**auth_message(Wallet(secrets.token_bytes(32)), model, timestamp), **more})


async def refusal(handshake: Handshake, message: str | bytes) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        await handshake.check(message)
    return refused.value.code, refused.value.reason


@pytest.mark.asyncio
class TestModel:
    @pytest.mark.parametrize("model", ["m", "m" * MAX_MODEL, "meta-llama/Llama-3.1-8B", "모델 (v1) é🙂"])
    async def test_a_name_in_one_line_is_taken(self, handshake: Handshake, model: str) -> None:
        identity = await handshake.check(signed(model))

        assert identity is not None
        assert identity.model == model

    @pytest.mark.parametrize(
        "model",
        [
            "",
            "m" * (MAX_MODEL + 1),
            "m" * 10_000,
            "a\nb",
            "a\n",
            "\x00",
            "\x1b[31m",
            "\x7f",
            "\x85",
            "\u2028",
            "\u202e",
        ],
    )
    async def test_any_other_is_refused(self, handshake: Handshake, model: str) -> None:
        assert await refusal(handshake, signed(model)) == MISSING


@pytest.mark.asyncio
class TestOtherFields:
    @pytest.mark.parametrize("timestamp", [10**400, -(10**400), 2**53 + 1, 0, -1])
    async def test_a_time_that_no_clock_shows_is_refused(self, handshake: Handshake, timestamp: int) -> None:
        assert await refusal(handshake, signed(timestamp=timestamp)) == MISSING

    @pytest.mark.parametrize("timestamp", [1, 2**53])
    async def test_any_other_is_compared(self, handshake: Handshake, timestamp: int) -> None:
        assert await refusal(handshake, signed(timestamp=timestamp)) == (4004, "Timestamp drift")

    @pytest.mark.parametrize("field", ["address", "signature"])
    async def test_what_is_too_long_is_no_signature(self, handshake: Handshake, field: str) -> None:
        assert await refusal(handshake, signed(more={field: "0x" + "1" * 10_000})) == (4005, "Invalid signature")

    async def test_what_else_it_says_is_ignored(self, handshake: Handshake) -> None:
        assert await handshake.check(signed(more={"version": "1.0", "gpu": {"vram": 24}}))


@pytest.mark.asyncio
class TestMessage:
    @pytest.mark.parametrize("message", [b'"\xff"', b'{"type":"auth","address":"\xff"}', "[" * 5000, "", '"\\ud800"'])
    async def test_what_is_no_json_is_none(self, handshake: Handshake, message: str | bytes) -> None:
        assert await handshake.check(message) is None

    @pytest.mark.parametrize("filler", [" ", "[", "x"])
    async def test_one_of_more_than_16_kib_is_not_read(self, handshake: Handshake, filler: str) -> None:
        message = signed()

        assert await refusal(handshake, message + filler * MAX_MESSAGE) == UNEXPECTED
        assert await handshake.check(message.ljust(MAX_MESSAGE))
