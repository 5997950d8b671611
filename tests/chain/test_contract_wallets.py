"""Signing in with a wallet that is a contract, deployed or not, against a real chain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
from eth_abi.abi import encode
from eth_account import Account
from eth_account.messages import SignableMessage, encode_defunct, encode_typed_data
from eth_utils.abi import function_signature_to_4byte_selector

from core.auth.challenge import Challenge
from core.auth.nonces import Nonces
from core.auth.sign_in import SignIn
from core.auth.tokens import TokenService
from core.chain.chain import open_chain
from core.chain.contract_wallets import ContractWallets
from core.clock import SystemClock
from core.errors import ChainUnavailable, SignInRefused
from core.store import Store
from tests.fakes.chain import CHAIN_ID, WALLETS, TestChain
from tests.fakes.rpc_proxy import Fault, RpcProxy

OWNER = Account.create()
MAGIC = bytes.fromhex("6492" * 16)


class Door:
    """A sign-in over the chain, and what goes with it."""

    def __init__(self, sign_in: SignIn, tokens: TokenService, nonces: Nonces, rpc: RpcProxy) -> None:
        self.sign_in, self.tokens, self.nonces, self.rpc = sign_in, tokens, nonces, rpc

    async def challenge(self, address: str) -> Challenge:
        """What the wallet is to sign."""
        return await self.sign_in.challenge(address, None)

    async def subject(self, address: str, signature: str) -> str:
        """Whose token the signature yields."""
        return self.tokens.verify(await self.sign_in.verify(address, signature)).subject


@pytest_asyncio.fixture
async def door(store: Store, chain: TestChain) -> AsyncIterator[Door]:
    """A sign-in that can ask the chain."""
    with RpcProxy(chain.url) as rpc:
        async with open_chain(rpc.url, CHAIN_ID) as opened:
            tokens, nonces = TokenService("s" * 32, None, 3600, SystemClock(), store), Nonces(store)
            sign_in = SignIn(nonces, tokens, CHAIN_ID, ["http://localhost:3000"], ContractWallets(opened))
            yield Door(sign_in, tokens, nonces, rpc)


@pytest.fixture
def deployed(chain: TestChain) -> str:
    """A contract wallet of OWNER."""
    return chain.deploy(WALLETS["TestWallet"], OWNER.address)


def by_owner(challenge: Challenge) -> str:
    """OWNER's signature over the plain text."""
    return str(OWNER.sign_message(encode_defunct(text=challenge.message)).signature.to_0x_hex())


def wrapped(factory: str, owner: str, signature: str) -> str:
    """ERC-6492: the signature of a wallet that the factory can make."""
    preparation = function_signature_to_4byte_selector("create(address)") + encode(["address"], [owner])
    inner = encode(["address", "bytes", "bytes"], [factory, preparation, bytes.fromhex(signature[2:])])
    return "0x" + (inner + MAGIC).hex()


@pytest.mark.asyncio
class TestDeployed:
    async def test_signs_in_with_any_of_the_three_forms(self, door: Door, deployed: str) -> None:
        forms: dict[str, Callable[[Challenge], SignableMessage]] = {
            "text": lambda challenge: encode_defunct(text=challenge.message),
            "typed": lambda challenge: encode_typed_data(full_message=challenge.typed_data),
            "siwe": lambda challenge: encode_defunct(text=challenge.siwe),
        }
        for form in forms.values():
            signature = OWNER.sign_message(form(await door.challenge(deployed))).signature.to_0x_hex()
            assert await door.subject(deployed, signature) == deployed

    async def test_one_question_finds_the_signed_one_of_five_nonces(self, door: Door, deployed: str) -> None:
        challenges = [await door.challenge(deployed) for _ in range(5)]
        asked = door.rpc.calls["eth_call"]

        assert await door.subject(deployed, by_owner(challenges[3])) == deployed
        assert door.rpc.calls["eth_call"] == asked + 1
        assert challenges[3].nonce not in {nonce.value for nonce in await door.nonces.of(deployed)}

    async def test_a_signature_is_good_once(self, door: Door, deployed: str) -> None:
        signature = by_owner(await door.challenge(deployed))
        await door.subject(deployed, signature)
        with pytest.raises(SignInRefused):
            await door.subject(deployed, signature)

    async def test_a_strangers_signature_is_refused_and_uses_nothing_up(self, door: Door, deployed: str) -> None:
        challenge, stranger = await door.challenge(deployed), Account.create()
        signature = stranger.sign_message(encode_defunct(text=challenge.message)).signature.to_0x_hex()
        with pytest.raises(SignInRefused):
            await door.subject(deployed, signature)

        assert await door.subject(deployed, by_owner(challenge)) == deployed

    @pytest.mark.parametrize("junk", ["0x00", "0x" + "ff" * 8192, "0x" + MAGIC.hex(), "0x" + "00" * 96 + MAGIC.hex()])
    async def test_junk_is_refused(self, door: Door, deployed: str, junk: str) -> None:
        await door.challenge(deployed)
        with pytest.raises(SignInRefused):
            await door.subject(deployed, junk)

    @pytest.mark.parametrize("junk", ["0x", "0x" + "ff" * 8193, "0xf", "x"])
    async def test_what_can_be_no_signature_asks_nobody(self, door: Door, deployed: str, junk: str) -> None:
        await door.challenge(deployed)
        with pytest.raises(SignInRefused):
            await door.subject(deployed, junk)

        assert door.rpc.calls["eth_call"] == 0

    async def test_a_wallet_that_burns_all_gas_is_refused(self, door: Door, chain: TestChain) -> None:
        greedy = chain.deploy(WALLETS["GreedyWallet"])
        challenge = await door.challenge(greedy)
        with pytest.raises(SignInRefused):
            await door.subject(greedy, by_owner(challenge))


@pytest.mark.asyncio
class TestNotYetDeployed:
    async def test_signs_in_and_stays_undeployed(self, door: Door, chain: TestChain) -> None:
        factory, owner = chain.deploy(WALLETS["TestWalletFactory"]), OWNER.address
        address = chain.read("addressOf", owner, artefact=WALLETS["TestWalletFactory"], at=factory)
        challenge = await door.challenge(address)

        assert await door.subject(address, wrapped(factory, owner, by_owner(challenge))) == address
        assert chain.rpc("eth_getCode", address, "latest") == "0x"

    async def test_a_factory_that_makes_another_wallet_is_refused(self, door: Door, chain: TestChain) -> None:
        factory, other = chain.deploy(WALLETS["TestWalletFactory"]), Account.create().address
        address = chain.read("addressOf", other, artefact=WALLETS["TestWalletFactory"], at=factory)
        challenge = await door.challenge(address)
        with pytest.raises(SignInRefused):
            await door.subject(address, wrapped(factory, OWNER.address, by_owner(challenge)))

    async def test_a_wrapped_signature_is_good_after_the_deployment_too(self, door: Door, chain: TestChain) -> None:
        factory, owner = chain.deploy(WALLETS["TestWalletFactory"]), OWNER.address
        address = chain.read("addressOf", owner, artefact=WALLETS["TestWalletFactory"], at=factory)
        preparation = function_signature_to_4byte_selector("create(address)") + encode(["address"], [owner])
        chain.send(chain.owner, factory, "0x" + preparation.hex())

        challenge = await door.challenge(address)
        assert await door.subject(address, wrapped(factory, owner, by_owner(challenge))) == address


@pytest.mark.asyncio
class TestAChainThatIsAway:
    async def test_is_503_and_the_nonce_stays_good(self, door: Door, deployed: str) -> None:
        challenge = await door.challenge(deployed)
        door.rpc.fault = Fault.BAD_GATEWAY
        with pytest.raises(ChainUnavailable) as refused:
            await door.subject(deployed, by_owner(challenge))
        assert refused.value.status == 503
        door.rpc.fault = None
        async with open_chain(door.rpc.url, CHAIN_ID):  # it answers again
            for _ in range(500):
                try:
                    assert await door.subject(deployed, by_owner(challenge)) == deployed
                except ChainUnavailable:
                    continue
                break

    async def test_does_not_matter_to_a_wallet_with_a_key(self, door: Door) -> None:
        door.rpc.fault = Fault.HANG
        address = OWNER.address.lower()

        assert await door.subject(address, by_owner(await door.challenge(address))) == address
        assert door.rpc.calls["eth_call"] == 0
