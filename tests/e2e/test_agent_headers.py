"""Agents as clients, as plumise-mcp is one: three signed headers instead of a token."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.e2e.client import JSON, Answer, call, post
from tests.e2e.network import AGENT, PETALS, PRO, Network
from tests.e2e.wallet import new_wallet, sign_in
from tests.fakes.node_server import HELLO
from tests.fakes.wallet import Wallet

CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 64, "stream": False}


def signed(wallet: Wallet, model: str = "default", age_s: int = 0) -> dict[str, str]:
    """The headers of one request."""
    timestamp = int(time.time()) - age_s
    signature = wallet.sign(f"inference:{wallet.checksummed}:{model}:{timestamp}")
    return {
        "X-Agent-Address": wallet.checksummed,
        "X-Agent-Signature": signature,
        "X-Agent-Timestamp": str(timestamp),
    }


def chat(url: str, headers: dict[str, str], model: str = "default", path: str = "/api/v1/inference/chat") -> Answer:
    return call(url, "POST", path, headers=JSON | headers, body=json.dumps({"model": model, **CHAT}))


class TestSigned:
    def test_a_request_for_the_default_model_is_served_by_the_first_free_one(self, url: str) -> None:
        answer = chat(url, signed(new_wallet()))

        assert answer.status == 201
        assert answer.json()["model"] == PETALS
        assert answer.json()["choices"][0]["message"]["content"] == HELLO

    @pytest.mark.parametrize("path", ["/api/v1/inference", "/api/v1/inference/stream", "/v1/chat/completions"])
    def test_it_is_good_at_every_door(self, url: str, path: str) -> None:
        assert chat(url, signed(new_wallet(), AGENT), AGENT, path).status in (200, 201)

    def test_without_a_body_it_is_the_model_of_the_query_or_the_default(self, url: str) -> None:
        query = f"?model={AGENT}&prompt=Hi&max_tokens=64"
        stream = call(url, "GET", "/api/v1/inference/stream" + query, headers=signed(new_wallet(), AGENT))
        model = call(url, "GET", f"/api/v1/models/{AGENT}", headers=signed(new_wallet()))

        assert (stream.status, model.status) == (200, 200)

    def test_the_caller_is_the_wallet_that_has_signed(self, url: str) -> None:
        wallet = new_wallet()

        me = call(url, "GET", "/api/v1/auth/me", headers=signed(wallet))

        assert me.json()["address"] == wallet.address

    def test_its_quota_is_the_one_of_its_tokens(self, url: str) -> None:
        wallet = new_wallet()
        post(url, "/api/v1/inference/chat", {"model": AGENT, **CHAT}, sign_in(url, wallet))

        answer = chat(url, signed(wallet))

        assert answer.headers["x-ratelimit-remaining-requests"] == "8"

    def test_a_clock_may_differ_by_five_minutes(self, url: str) -> None:
        assert chat(url, signed(new_wallet(), age_s=290)).status == 201
        assert chat(url, signed(new_wallet(), age_s=-290)).status == 201

    def test_a_pro_model_stays_one(self, url: str) -> None:
        assert chat(url, signed(new_wallet(), PRO), PRO).status == 400


class TestRefused:
    def test_a_second_use_is(self, url: str) -> None:
        headers = signed(new_wallet())

        assert chat(url, headers).status == 201
        assert [chat(url, headers).status for _ in range(6)] == [401] * 6  # at any worker

    def test_a_second_use_in_another_spelling_is(self, url: str) -> None:
        wallet = new_wallet()
        headers = signed(wallet)
        raw = bytes.fromhex(headers["X-Agent-Signature"][2:])
        s = int.from_bytes(raw[32:64]) | (raw[64] - 27) << 255

        assert chat(url, headers).status == 201
        assert chat(url, headers | {"X-Agent-Signature": f"0x{raw[:32].hex()}{s:064x}"}).status == 401
        assert chat(url, headers | {"X-Agent-Signature": "0x" + raw[:64].hex() + f"{raw[64] - 27:02x}"}).status == 401

    @pytest.mark.parametrize("age_s", [310, -310, 10_000_000])
    def test_another_time_is(self, url: str, age_s: int) -> None:
        assert chat(url, signed(new_wallet(), age_s=age_s)).status == 401

    def test_another_model_than_the_signed_one_is(self, url: str) -> None:
        assert chat(url, signed(new_wallet(), PETALS), AGENT).status == 401

    def test_another_wallet_s_signature_is(self, url: str) -> None:
        stranger = {"X-Agent-Address": new_wallet().checksummed}

        assert chat(url, signed(new_wallet()) | stranger).status == 401

    @pytest.mark.parametrize("name", ["X-Agent-Address", "X-Agent-Signature", "X-Agent-Timestamp"])
    @pytest.mark.parametrize("value", [None, "", "0x", "-1", "1e9", "１", "9" * 5000, "0x" + "0" * 130])
    def test_anything_malformed_is(self, url: str, name: str, value: str | None) -> None:
        headers = signed(new_wallet())
        del headers[name]
        given = {} if value is None else {name: value.encode().decode("latin-1")}

        answer = chat(url, headers | given)

        assert answer.status == 401
        assert answer.json() == {"message": "Unauthorized", "statusCode": 401}

    def test_a_body_that_is_no_json_is_one_of_the_default_model(self, url: str) -> None:
        path = "/api/v1/inference/chat"

        assert call(url, "POST", path, headers=JSON | signed(new_wallet()), body="[" * 5000).status == 400
        assert call(url, "POST", path, headers=JSON | signed(new_wallet(), AGENT), body="[" * 5000).status == 401

    def test_a_wrong_token_is_not_made_good_by_a_signature(self, url: str) -> None:
        assert chat(url, signed(new_wallet()) | {"Authorization": "Bearer x"}).status == 401

    def test_the_operator_doors_speak_openai(self, url: str) -> None:
        answer = chat(url, signed(new_wallet(), age_s=1000), path="/v1/chat/completions")

        assert answer.status == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"


class TestDefaultModel:
    def test_it_is_one_for_tokens_too(self, url: str, token: str, nodes: Network) -> None:
        assert post(url, "/api/v1/inference/chat", {"model": "default", **CHAT}, token).json()["model"] == PETALS

    def test_any_other_unknown_name_stays_unknown(self, url: str, token: str) -> None:
        answer = post(url, "/api/v1/inference/chat", {"model": "Default", **CHAT}, token)

        assert (answer.status, answer.json()["message"]) == (400, "Model Default not found")
