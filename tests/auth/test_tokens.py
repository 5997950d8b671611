"""Tokens: whom they are given to, how long they are good, and what is no token."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import time
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import redis_keys
from core.auth.caller import OPERATOR, Caller
from core.auth.keys import OperatorKey
from core.auth.tokens import LEEWAY_S, MAX_LENGTH, REMEMBERED, TokenService
from core.errors import StoreUnavailable, Unauthenticated
from core.store import Store, open_store
from tests.fakes.clock import FakeClock

SECRET, FORMER, FOREIGN = "s" * 32, "f" * 32, "x" * 32
LIFE_S = 24 * 3600
ADDRESS = "0x" + "ab" * 20
NOW = int(FakeClock().now())
HEADER = {"alg": "HS256", "typ": "at+jwt"}
CLAIMS: dict[str, Any] = {
    "iss": "plumise-inference-api",
    "aud": "plumise-inference-api",
    "sub": ADDRESS,
    "address": ADDRESS,
    "jti": "0f" * 16,
    "iat": NOW,
    "exp": NOW + LIFE_S,
}


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def mint(header: dict[str, Any] | None = None, claims: Any = None, secret: str = SECRET, digest: str = "sha256") -> str:
    """A token made by hand: every part as the test wants it, well signed."""
    parts = [HEADER if header is None else header, CLAIMS if claims is None else claims]
    raw = [part if isinstance(part, bytes) else json.dumps(part).encode() for part in parts]
    text = ".".join(map(encoded, raw))
    return f"{text}.{encoded(hmac.digest(secret.encode(), text.encode(), digest))}"


def without(claim: str) -> dict[str, Any]:
    return {name: value for name, value in CLAIMS.items() if name != claim}


def with_text(token: str, part: int, text: str) -> str:
    parts = token.split(".")
    parts[part] = text
    return ".".join(parts)


GOOD = mint()
HEAD, BODY, SIGNATURE = GOOD.split(".")
SPARE_BITS = SIGNATURE[:-1] + chr(ord(SIGNATURE[-1]) + 1)  # decodes to the very same 32 bytes
SHA512_KEY = hashlib.sha512(SECRET.encode()).hexdigest()

FORGERIES: dict[str, str] = {
    # What is no token at all
    "empty": "",
    "blank": " ",
    "one part": "abc",
    "two parts": f"{HEAD}.{BODY}",
    "four parts": f"{GOOD}.{SIGNATURE}",
    "dots": "..",
    "not ASCII": with_text(GOOD, 1, "한국어"),
    "lone surrogate": with_text(GOOD, 2, "\udcff" * 43),
    "NUL": GOOD + "\0",
    "header is no JSON": with_text(GOOD, 0, encoded(b"{")),
    "header is a list": with_text(GOOD, 0, encoded(b"[]")),
    "header nested deep": with_text(GOOD, 0, encoded(b"[" * 1500)),
    "longer than 4 KiB, well signed": mint(claims=CLAIMS | {"pad": "x" * MAX_LENGTH}),
    "a megabyte": "a" * 1_000_000,
    # The signature
    "no signature": f"{HEAD}.{BODY}.",
    "signature cut": GOOD[:-4],
    "signature of another secret": mint(secret=FOREIGN),
    "signature of an empty secret": mint(secret=""),
    "signature of the secret's hash": mint(secret=SHA512_KEY),
    "signature of zeros": with_text(GOOD, 2, "A" * 43),
    "signature of other claims": with_text(GOOD, 1, mint(claims=CLAIMS | {"sub": "0x" + "cd" * 20}).split(".")[1]),
    "same signature, written with spare bits": with_text(GOOD, 2, SPARE_BITS),
    "same signature, padded": GOOD + "=",
    "same signature, foreign characters between": with_text(GOOD, 2, SIGNATURE[:5] + "!" + SIGNATURE[5:]),
    "same signature, standard alphabet": with_text(GOOD, 2, SIGNATURE + "\n"),
    # The algorithm
    "alg none": f"{encoded(json.dumps(HEADER | {'alg': 'none'}).encode())}.{BODY}.",
    "alg None, with a signature": mint(HEADER | {"alg": "None"}),
    "alg missing": mint({"typ": "at+jwt"}),
    "alg null": mint(HEADER | {"alg": None}),
    "alg a list": mint(HEADER | {"alg": ["HS256"]}),
    "alg in lower case": mint(HEADER | {"alg": "hs256"}),
    "alg HS384": mint(HEADER | {"alg": "HS384"}, digest="sha384"),
    "alg HS512": mint(HEADER | {"alg": "HS512"}, digest="sha512"),
    "alg HS512, signed as HS256": mint(HEADER | {"alg": "HS512"}),
    "alg RS256": mint(HEADER | {"alg": "RS256"}),
    "alg ES256": mint(HEADER | {"alg": "ES256"}),
    # The header
    "typ missing": mint({"alg": "HS256"}),
    "typ JWT": mint(HEADER | {"typ": "JWT"}),
    "kid of a path": mint(HEADER | {"kid": "../../dev/null"}, secret=""),
    "kid, well signed": mint(HEADER | {"kid": "1"}),
    "kid a number": mint(HEADER | {"kid": 1}),
    "jwk": mint(HEADER | {"jwk": {"kty": "oct", "k": encoded(FOREIGN.encode())}}, secret=FOREIGN),
    "jku": mint(HEADER | {"jku": "https://evil.example/keys"}),
    "crit unknown": mint(HEADER | {"crit": ["exp"], "exp": NOW}),
    "crit empty": mint(HEADER | {"crit": []}),
    "b64 false": mint(HEADER | {"b64": False, "crit": ["b64"]}),
    "b64 true": mint(HEADER | {"b64": True}),
    "zip": mint(HEADER | {"zip": "DEF"}),
    # The claims, well signed
    **{f"no {claim}": mint(claims=without(claim)) for claim in ("iss", "aud", "sub", "jti", "iat", "exp")},
    "another iss": mint(claims=CLAIMS | {"iss": "plumise-oracle"}),
    "another aud": mint(claims=CLAIMS | {"aud": "plumise-oracle"}),
    "aud a list": mint(claims=CLAIMS | {"aud": ["plumise-inference-api"]}),
    "sub of the operator": mint(claims=CLAIMS | {"sub": OPERATOR}),
    "sub in upper case": mint(claims=CLAIMS | {"sub": "0x" + "AB" * 20}),
    "sub a number": mint(claims=CLAIMS | {"sub": 5}),
    "sub with a newline": mint(claims=CLAIMS | {"sub": ADDRESS + "\n"}),
    "jti short": mint(claims=CLAIMS | {"jti": "x"}),
    "exp a text": mint(claims=CLAIMS | {"exp": str(NOW + 10)}),
    "exp true": mint(claims=CLAIMS | {"exp": True}),
    "exp null": mint(claims=CLAIMS | {"exp": None}),
    "exp NaN": mint(claims=CLAIMS | {"exp": float("nan")}),
    "exp Infinity": mint(claims=CLAIMS | {"exp": float("inf")}),
    "exp passed": mint(claims=CLAIMS | {"exp": NOW - LEEWAY_S}),
    "iat in the future": mint(claims=CLAIMS | {"iat": NOW + LEEWAY_S + 1}),
    "claims a list": mint(claims=[CLAIMS]),
    "claims null": mint(claims=b"null"),
    "claims no JSON": mint(claims=b"{"),
    "claims no UTF-8": mint(claims=b'{"sub":"\xff"}'),
    "claims nested deep": mint(claims=b'{"x":' + b"[" * 2000),
    # What the former service gave out
    "a token of the former service": mint(
        {"alg": "HS256", "typ": "JWT"}, {"address": ADDRESS, "iat": NOW, "exp": NOW + 100}
    ),
}


def service(store: Store, clock: FakeClock, secret: str = SECRET, previous: str | None = None) -> TokenService:
    return TokenService(secret, previous, LIFE_S, clock, store)


@pytest.fixture
def tokens(store: Store, clock: FakeClock) -> TokenService:
    return service(store, clock)


class TestIssue:
    def test_makes_a_token_that_says_whose_it_is(self, tokens: TokenService) -> None:
        token = tokens.issue(ADDRESS)
        header, claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in token.split(".")[:2])

        assert header == HEADER
        assert re.fullmatch("[0-9a-f]{32}", claims["jti"])
        assert claims == CLAIMS | {"jti": claims["jti"]}
        assert tokens.verify(token) == Caller(ADDRESS, claims["jti"], NOW + LIFE_S)

    def test_never_makes_the_same_twice(self, tokens: TokenService) -> None:
        assert len({tokens.verify(tokens.issue(ADDRESS)).token_id for _ in range(100)}) == 100


class TestVerify:
    def test_takes_a_good_token_made_by_other_software(self, tokens: TokenService) -> None:
        assert tokens.verify(GOOD) == Caller(ADDRESS, CLAIMS["jti"], CLAIMS["exp"])

    @pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES)
    def test_refuses_all_others(self, tokens: TokenService, token: str) -> None:
        tokens.verify(GOOD)
        for _ in range(2):  # the second time, nothing may have been remembered
            with pytest.raises(Unauthenticated):
                tokens.verify(token)

    def test_refuses_huge_tokens_at_once(self, tokens: TokenService) -> None:
        started = time.process_time()
        with pytest.raises(Unauthenticated):
            tokens.verify("e" * 50_000_000)

        assert time.process_time() - started < 0.5

    @settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, len(GOOD) - 1), st.characters())
    def test_refuses_a_token_with_any_one_character_changed(
        self, tokens: TokenService, position: int, character: str
    ) -> None:
        changed = GOOD[:position] + character + GOOD[position + 1 :]
        if changed == GOOD:
            return
        with pytest.raises(Unauthenticated):
            tokens.verify(changed)

    def test_allows_for_clocks_that_differ_by_half_a_minute(self, tokens: TokenService, clock: FakeClock) -> None:
        tokens.verify(mint(claims=CLAIMS | {"iat": NOW + LEEWAY_S}))
        clock.advance(LIFE_S + LEEWAY_S - 1)

        assert tokens.verify(GOOD).subject == ADDRESS

    @pytest.mark.parametrize("remembered", [True, False])
    def test_ends_with_the_token(self, tokens: TokenService, clock: FakeClock, remembered: bool) -> None:
        token = tokens.issue(ADDRESS)
        if remembered:
            tokens.verify(token)
        clock.advance(LIFE_S + LEEWAY_S)

        with pytest.raises(Unauthenticated):
            tokens.verify(token)


class TestMemory:
    def test_makes_the_next_check_a_look_up(self, tokens: TokenService) -> None:
        assert tokens.verify(GOOD) is tokens.verify(GOOD)

    def test_is_bounded_and_keeps_who_comes_often(self, tokens: TokenService) -> None:
        often = tokens.issue(ADDRESS)
        caller = tokens.verify(often)
        first = tokens.issue(ADDRESS)
        forgotten = tokens.verify(first)
        for number in range(REMEMBERED):
            tokens.verify(mint(claims=CLAIMS | {"n": number}))
            if number % 1000 == 0:
                tokens.verify(often)

        assert len(tokens._remembered) == REMEMBERED
        assert tokens.verify(often) is caller
        assert tokens.verify(first) == forgotten
        assert tokens.verify(first) is not forgotten


class TestRotation:
    def test_keeps_the_tokens_of_the_previous_secret_good(self, store: Store, clock: FakeClock) -> None:
        old = service(store, clock, FORMER).issue(ADDRESS)
        rotated = service(store, clock, SECRET, FORMER)

        assert rotated.verify(old).subject == ADDRESS
        assert rotated.verify(rotated.issue(ADDRESS)).subject == ADDRESS

    def test_signs_with_the_new_secret_only(self, store: Store, clock: FakeClock) -> None:
        new = service(store, clock, SECRET, FORMER).issue(ADDRESS)

        assert service(store, clock, SECRET).verify(new).subject == ADDRESS
        with pytest.raises(Unauthenticated):
            service(store, clock, FORMER).verify(new)

    def test_ends_with_the_previous_secret(self, store: Store, clock: FakeClock) -> None:
        with pytest.raises(Unauthenticated):
            service(store, clock, SECRET).verify(mint(secret=FORMER))

    @pytest.mark.parametrize("token", FORGERIES.values(), ids=FORGERIES)
    def test_opens_no_door_for_forgeries(self, store: Store, clock: FakeClock, token: str) -> None:
        with pytest.raises(Unauthenticated):
            service(store, clock, FORMER, SECRET).verify(token)


@pytest.mark.asyncio
class TestRevocation:
    async def test_ends_one_token_for_all_workers(self, store: Store, clock: FakeClock) -> None:
        worker, other = service(store, clock), service(store, clock)
        ended, kept = worker.issue(ADDRESS), worker.issue(ADDRESS)
        other.verify(ended)
        await worker.revoke(worker.verify(ended))

        with pytest.raises(Unauthenticated):
            await other.ensure_live(other.verify(ended))
        await other.ensure_live(other.verify(kept))

    async def test_is_remembered_until_the_token_would_have_ended(
        self, store: Store, clock: FakeClock, redis_url: str
    ) -> None:
        tokens = service(store, clock)
        caller = tokens.verify(tokens.issue(ADDRESS))
        clock.advance(3600)
        await tokens.revoke(caller)
        with redis.Redis.from_url(redis_url) as raw:
            left_s = raw.ttl(redis_keys.revoked(str(caller.token_id)))

        assert LIFE_S - 3600 + LEEWAY_S - 10 <= left_s <= LIFE_S - 3600 + LEEWAY_S

    async def test_of_a_token_that_ends_this_moment_is_no_error(self, store: Store, clock: FakeClock) -> None:
        tokens = service(store, clock)
        caller = tokens.verify(tokens.issue(ADDRESS))
        clock.advance(LIFE_S + LEEWAY_S)

        await tokens.revoke(caller)

    async def test_does_not_concern_the_operator(self, tokens: TokenService) -> None:
        await tokens.revoke(Caller(OPERATOR))
        await tokens.ensure_live(Caller(OPERATOR))

    async def test_fails_closed_without_redis(self, tmp_path: object, clock: FakeClock) -> None:
        async with open_store(f"unix://{tmp_path}/none.sock") as away:
            tokens = service(away, clock)
            caller = tokens.verify(tokens.issue(ADDRESS))
            with pytest.raises(StoreUnavailable):
                await tokens.ensure_live(caller)
            with pytest.raises(StoreUnavailable):
                await tokens.revoke(caller)


class TestOperatorKey:
    def test_matches_itself_only(self) -> None:
        key = OperatorKey("k" * 16)

        assert key.matches("k" * 16)
        for other in ("", "k" * 15, "k" * 17, "K" * 16, "k" * 15 + "\udcff", "열쇠"):
            assert not key.matches(other)

    def test_matches_nothing_when_there_is_none(self) -> None:
        assert not OperatorKey(None).matches("")
        assert not OperatorKey(None).matches("None")

    def test_never_shows_itself(self) -> None:
        assert "secret" not in repr(OperatorKey("secret" * 4))
