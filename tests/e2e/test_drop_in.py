"""The former service's clients notice no change: what they send and see, case by case, against the true server."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from eth_account.datastructures import SignedMessage
from eth_account.messages import encode_defunct

from tests.e2e.client import JSON, Answer, bearer, call, post
from tests.e2e.conftest import gateway_with
from tests.e2e.network import PETALS, Network
from tests.e2e.server import DEFAULTS, GatewayServer
from tests.e2e.wallet import ask_nonce, new_wallet, sign_in
from tests.fakes.wallet import compact, with_parity

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "vectors" / "drop_in.json").read_text())[
    "cases"
]
GOOD: dict[str, Any] = {"model": PETALS, "prompt": "hi", "max_tokens": 1}
PATTERNS = {
    "<any>": r"(?s).*",
    "<moment>": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
    "<nonce>": r"[0-9a-f]{64}",
    "<message>": r"Sign this message to authenticate with Plumise Inference API\.\n\nNonce: [0-9a-f]{64}",
    "<jwt>": r"[\w-]+\.[\w-]+\.[\w-]+",
    "<request id>": r"req_\d{13}_[0-9a-f]{16}",
    "<url>": r"http://127\.0\.0\.1:\d+",
    "<count>": r"[1-9]\d*",
}
END_OF_STREAM = r'event: complete\nid: \d+\ndata: \{"id":"req_[^\n]*\}\n\n'


@pytest.fixture(scope="module")
def server(running_nodes: Network) -> Iterator[GatewayServer]:
    """A gateway with one Petals node, as the former service was recorded."""
    with gateway_with(running_nodes.petals.url) as gateway:
        yield gateway


class User:
    """A new wallet, and all that a placeholder can ask of it; each thing is made once, when it is asked for."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.wallet = new_wallet()
        lower, plain = self.wallet.address, self.wallet.checksummed
        self.known: dict[str, Callable[[], str]] = {
            "<address>": lambda: plain,
            "<lower address>": lambda: lower,
            "<upper address>": lambda: "0x" + lower[2:].upper(),
            "<0X address>": lambda: "0X" + plain[2:],
            "<miscapitalised address>": lambda: "0x" + plain[2:].swapcase(),
            "<address without 0x>": lambda: plain[2:],
            "<token>": cache(partial(sign_in, url, self.wallet)),
            "<expired token>": lambda: self._forged(DEFAULTS["JWT_SECRET"], iat=1, exp=int(time.time()) - 3600),
            "<token of another secret>": lambda: self._forged("another-secret-of-32-bytes-or-more"),
            "<unsigned token>": lambda: self._forged("", "none"),
            "<signature>": lambda: self.wallet.sign(self._challenge()["message"]),
            "<signature with parity>": lambda: with_parity(self._signed(self._challenge()["message"])),
            "<compact signature>": lambda: compact(self._signed(self._challenge()["message"])),
            "<signature of another>": lambda: new_wallet().sign(self._challenge()["message"]),
            "<signature of the bare nonce>": lambda: self.wallet.sign(self._challenge()["nonce"]),
            "<signature without 0x>": lambda: self.wallet.sign(self._challenge()["message"])[2:],
            "<signature without a nonce>": lambda: self.wallet.sign("never asked for"),
            "<used signature>": self._used,
            "<2 MiB>": lambda: json.dumps({"address": "x" * 2**21}),
            "<32001 characters>": lambda: "x" * 32_001,
        }

    def fill(self, value: Any) -> Any:
        """The value with every placeholder in it replaced."""
        if isinstance(value, dict):
            return {name: self.fill(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.fill(inner) for inner in value]
        if isinstance(value, str):
            return re.sub(r"<[^<>]+>", lambda found: self._meant(found[0]), value)
        return value

    def _meant(self, placeholder: str) -> str:
        return self.known[placeholder]() if placeholder in self.known else placeholder

    def _challenge(self) -> dict[str, str]:
        return ask_nonce(self.url, self.wallet)

    def _signed(self, text: str) -> SignedMessage:
        return self.wallet.signed(encode_defunct(text=text))

    def _used(self) -> str:
        signature = self.wallet.sign(self._challenge()["message"])
        answer = post(self.url, "/api/v1/auth/verify", {"address": self.wallet.address, "signature": signature})
        assert answer.status == 201
        return signature

    def _forged(self, secret: str, algorithm: str = "HS256", **changes: int) -> str:
        good = jwt.decode(self.known["<token>"](), options={"verify_signature": False})
        return jwt.encode(good | changes, secret, algorithm, headers={"typ": "at+jwt"})


def ask(user: User, request: dict[str, Any]) -> Answer:
    """Sends a case's request."""
    filled = user.fill(request)
    raw = json.dumps(filled["body"]) if "body" in filled else filled.get("raw")
    headers = (JSON if raw is not None else {}) | filled.get("headers", {}) | bearer(filled.get("token"))
    return call(user.url, filled["method"], filled["path"], headers=headers, body=raw)


def prepare(user: User, given: dict[str, Any]) -> None:
    """Lets the user have asked for a nonce, or so many times for an answer."""
    if "nonce" in given:
        ask_nonce(user.url, user.wallet)
    for asked, status in [(GOOD | {"max_tokens": 0}, 400)] * given.get("refused", 0) + [(GOOD, 201)] * given.get(
        "good", 0
    ):
        assert post(user.url, "/api/v1/inference", asked, user.known["<token>"]()).status == status


def assert_like(expected: Any, actual: Any) -> None:
    """Equal, but for placeholders."""
    if isinstance(expected, dict):
        wanted = {name: value for name, value in expected.items() if name != "..."}
        assert isinstance(actual, dict)
        assert wanted.keys() == actual.keys() if len(wanted) == len(expected) else wanted.keys() <= actual.keys()
        for name, value in wanted.items():
            assert_like(value, actual[name])
    elif isinstance(expected, list) and expected[-1:] == ["<more>"]:
        assert_like(expected[:-1], actual[: len(expected) - 1])
    elif isinstance(expected, list):
        assert isinstance(actual, list)
        assert len(expected) == len(actual)
        for one, other in zip(expected, actual, strict=True):
            assert_like(one, other)
    elif expected in PATTERNS:
        assert re.fullmatch(PATTERNS[expected], str(actual)), actual
    else:
        assert type(expected) is type(actual)
        assert expected == actual


@pytest.mark.parametrize("case", CASES, ids=[f"{case['section']}: {case['name']}" for case in CASES])
def test_answers_as_ever(case: dict[str, Any], server: GatewayServer, nodes: Network) -> None:
    given, expected, user = case.get("given", {}), case["response"], User(server.url)
    nodes.petals.answers = (given.get("answer", "Paris, I think."),)
    prepare(user, given)

    answer = ask(user, case["request"])

    assert answer.status == expected["status"], answer.body
    for name, value in expected.get("headers", {}).items():
        assert_like(value, answer.headers.get(name))
    if "body" in expected:
        assert_like(user.fill(expected["body"]), answer.json())
    if "text" in expected:
        before, _, _ = expected["text"].partition("<end of stream>")
        assert re.fullmatch(re.escape(before) + END_OF_STREAM, answer.body.decode()), answer.body
