"""Signing in, from the challenge to the token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from eth_account.messages import SignableMessage, encode_defunct, encode_typed_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.auth.challenge import Challenge
from core.auth.nonces import MOST_OPEN, Nonce, Nonces
from core.auth.sign_in import SignIn
from core.auth.tokens import TokenService
from core.errors import SignInRefused, StoreUnavailable
from core.store import Store, open_store
from tests.auth.test_wallet import NO_SIGNATURES, NOBODYS_SIGNATURES
from tests.fakes.clock import FakeClock
from tests.fakes.wallet import DIALECTS, Wallet, high_s, plain

ORIGINS = ("https://plug.plumise.com", "http://localhost:3000")
WALLET = Wallet()

FORMS: dict[str, Callable[[Challenge], SignableMessage]] = {
    "message": lambda challenge: encode_defunct(text=challenge.message),
    "typedData": lambda challenge: encode_typed_data(full_message=challenge.typed_data),
    "siwe": lambda challenge: encode_defunct(text=challenge.siwe),
}


def sign_in_over(store: Store, clock: FakeClock, life_ms: int = 300_000) -> SignIn:
    return SignIn(Nonces(store, life_ms), TokenService("s" * 32, None, 3600, clock, store), 41956, ORIGINS)


class AllAtOnce(Nonces):
    """Lets nobody go on before `parties` have found the nonce open; then all of them try to use it up."""

    def __init__(self, store: Store, parties: int) -> None:
        super().__init__(store)
        self._barrier = asyncio.Barrier(parties)
        self._connections = asyncio.Semaphore(50)  # fewer than the store has, so that nobody waits for one

    async def of(self, address: str) -> list[Nonce]:
        async with self._connections:
            found = await super().of(address)
        await self._barrier.wait()
        return found

    async def consume(self, address: str, nonce: Nonce) -> bool:
        async with self._connections:
            return await super().consume(address, nonce)


@pytest.fixture
def tokens(store: Store, clock: FakeClock) -> TokenService:
    return TokenService("s" * 32, None, 3600, clock, store)


@pytest.fixture
def sign_in(store: Store, clock: FakeClock) -> SignIn:
    return sign_in_over(store, clock)


async def refusal(sign_in: SignIn, signature: str, address: str = WALLET.address) -> str:
    with pytest.raises(SignInRefused) as refused:
        await sign_in.verify(address, signature)
    return refused.value.text


@pytest.mark.asyncio
class TestChallenge:
    @pytest.mark.parametrize(
        ("asked", "answered"),
        [(ORIGINS[0], ORIGINS[0]), (ORIGINS[1], ORIGINS[1]), ("https://evil.example", ORIGINS[0]), (None, ORIGINS[0])],
    )
    async def test_names_the_site_that_asks_if_it_is_one_of_ours(
        self, sign_in: SignIn, asked: str | None, answered: str
    ) -> None:
        challenge = await sign_in.challenge(WALLET.checksummed, asked)

        assert challenge.origin == answered
        assert challenge.address == WALLET.address
        assert challenge.chain_id == 41956


@pytest.mark.asyncio
class TestVerify:
    @pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS)
    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    async def test_takes_every_form_in_every_dialect(
        self, sign_in: SignIn, tokens: TokenService, form: Any, dialect: Any
    ) -> None:
        for _ in range(3):
            challenge = await sign_in.challenge(WALLET.address, ORIGINS[1])
            token = await sign_in.verify(WALLET.checksummed, dialect(WALLET.signed(form(challenge))))

            assert tokens.verify(token).subject == WALLET.address

    @pytest.mark.parametrize(
        "written",
        [
            WALLET.checksummed,
            WALLET.address,
            "0x" + WALLET.address[2:].upper(),
            "0X" + WALLET.address[2:],
            WALLET.checksummed.replace("e239c", "E239C"),
        ],
    )
    async def test_takes_the_address_in_any_letter_case(self, sign_in: SignIn, written: str) -> None:
        challenge = await sign_in.challenge(written, None)

        assert await sign_in.verify(WALLET.address, WALLET.sign(challenge.message))

        challenge = await sign_in.challenge(WALLET.address, None)

        assert await sign_in.verify(written, WALLET.sign(challenge.siwe))

    async def test_takes_each_of_the_open_challenges(self, sign_in: SignIn) -> None:
        challenges = [await sign_in.challenge(WALLET.address, ORIGINS[n % 2]) for n in range(MOST_OPEN)]
        tokens = {await sign_in.verify(WALLET.address, WALLET.sign(each.siwe)) for each in challenges}

        assert len(tokens) == MOST_OPEN

    async def test_takes_a_signature_once_whatever_its_form(self, sign_in: SignIn) -> None:
        challenge = await sign_in.challenge(WALLET.address, None)
        await sign_in.challenge(WALLET.address, None)
        await sign_in.verify(WALLET.address, WALLET.sign(challenge.message))

        assert await refusal(sign_in, WALLET.sign(challenge.message)) == "Invalid signature"
        assert await refusal(sign_in, WALLET.sign(challenge.siwe)) == "Invalid signature"

    async def test_says_when_there_is_no_nonce(self, sign_in: SignIn) -> None:
        assert await refusal(sign_in, WALLET.sign("anything")) == "Nonce not found or expired"

        challenge = await sign_in.challenge(WALLET.address, None)
        await sign_in.verify(WALLET.address, WALLET.sign(challenge.message))

        assert await refusal(sign_in, WALLET.sign(challenge.message)) == "Nonce not found or expired"

    async def test_says_when_the_nonce_has_expired(self, store: Store, clock: FakeClock) -> None:
        brief = sign_in_over(store, clock, life_ms=30)
        challenge = await brief.challenge(WALLET.address, None)
        await asyncio.sleep(0.06)

        assert await refusal(brief, WALLET.sign(challenge.message)) == "Nonce not found or expired"

    async def test_takes_nobody_for_another(self, sign_in: SignIn) -> None:
        thief = Wallet(b"\x01" * 32)
        challenge = await sign_in.challenge(WALLET.address, None)
        await sign_in.challenge(thief.address, None)

        assert await refusal(sign_in, thief.sign(challenge.message)) == "Invalid signature"
        assert await refusal(sign_in, WALLET.sign(challenge.message), thief.address) == "Invalid signature"
        assert await refusal(sign_in, WALLET.sign(challenge.nonce)) == "Invalid signature"

    @pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
    async def test_of_a_thousand_at_once_gives_one_token(self, store: Store, tokens: TokenService, form: Any) -> None:
        sign_in = SignIn(AllAtOnce(store, 1000), tokens, 41956, ORIGINS)
        signature = plain(WALLET.signed(form(await sign_in.challenge(WALLET.address, None))))

        async def attempt() -> str | None:
            try:
                return await sign_in.verify(WALLET.address, signature)
            except SignInRefused:
                return None

        results = await asyncio.gather(*(attempt() for _ in range(1000)))

        assert len([token for token in results if token is not None]) == 1

    async def test_fails_closed_without_redis(self, tmp_path: object, clock: FakeClock) -> None:
        async with open_store(f"unix://{tmp_path}/none.sock") as away:
            sign_in = sign_in_over(away, clock)
            with pytest.raises(StoreUnavailable):
                await sign_in.challenge(WALLET.address, None)
            with pytest.raises(StoreUnavailable):
                await sign_in.verify(WALLET.address, WALLET.sign("anything"))


@pytest.mark.asyncio
class TestAStranger:
    async def test_can_not_lock_a_wallet_out_by_asking(self, sign_in: SignIn) -> None:
        mine = await sign_in.challenge(WALLET.address, ORIGINS[0])
        for _ in range(25):
            await sign_in.challenge(WALLET.address, "https://evil.example")
        during = await sign_in.challenge(WALLET.address, ORIGINS[0])
        for _ in range(25):
            await sign_in.challenge(WALLET.address, "https://evil.example")

        assert await sign_in.verify(WALLET.address, WALLET.sign(mine.message))
        assert await sign_in.verify(WALLET.address, WALLET.sign_typed(during.typed_data))

        after = await sign_in.challenge(WALLET.address, ORIGINS[0])

        assert await sign_in.verify(WALLET.address, WALLET.sign(after.siwe))

    async def test_can_not_use_a_nonce_up_with_junk(self, sign_in: SignIn) -> None:
        challenge = await sign_in.challenge(WALLET.address, None)
        for junk in (*NO_SIGNATURES.values(), *NOBODYS_SIGNATURES.values(), Wallet(b"\x01" * 32).sign("x")):
            assert await refusal(sign_in, junk) == "Invalid signature"

        assert await sign_in.verify(WALLET.address, WALLET.sign(challenge.message))

    async def test_can_not_use_the_twin_of_a_signature(self, sign_in: SignIn) -> None:
        challenge = await sign_in.challenge(WALLET.address, None)
        signed = WALLET.signed(encode_defunct(text=challenge.message))

        assert await refusal(sign_in, high_s(signed)) == "Invalid signature"


class TestAnySignature:
    @settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.one_of(st.text(), st.binary(max_size=80).map(lambda raw: "0x" + raw.hex())), min_size=1))
    def test_is_refused_and_never_another_error(self, redis_url: str, signatures: list[str]) -> None:
        async def run() -> None:
            async with open_store(redis_url, timeout_s=10) as store:
                sign_in = sign_in_over(store, FakeClock())
                await sign_in.challenge(WALLET.address, None)
                for signature in signatures:
                    assert await refusal(sign_in, signature) == "Invalid signature"

        asyncio.run(run())
