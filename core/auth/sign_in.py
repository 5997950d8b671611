"""Signing in: a wallet proves that it owns an address, and gets a token for it."""

from __future__ import annotations

from collections.abc import Sequence

from core.auth.challenge import Challenge
from core.auth.nonces import Nonce, Nonces
from core.auth.tokens import TokenService
from core.chain.contract_wallets import ContractWallets
from core.errors import SignInRefused
from core.wallet import BadSignature, parse_contract_signature, parse_signature


class SignIn:
    """
    The two steps of a sign-in.

    `origins` are the sites that may ask; the first stands for whoever is none of them. Every method takes
    an address in any letter case, and raises StoreUnavailable. Wallets that are contracts can sign in when
    `contract_wallets` can ask the chain.
    """

    def __init__(
        self,
        nonces: Nonces,
        tokens: TokenService,
        chain_id: int,
        origins: Sequence[str],
        contract_wallets: ContractWallets | None = None,
    ) -> None:
        self._contract_wallets = contract_wallets
        self._nonces = nonces
        self._tokens = tokens
        self._chain_id = chain_id
        self._origins = origins

    async def challenge(self, address: str, origin: str | None) -> Challenge:
        """What the wallet is to sign; `origin` is the site that asks."""
        address = address.lower()
        site = self._origins[0] if origin is None or origin not in self._origins else origin
        return self._challenge(address, await self._nonces.issue(address, site))

    async def verify(self, address: str, signature: str) -> str:
        """
        A token for the address. Raises SignInRefused, and ChainUnavailable when only a contract could have signed.

        The signature is checked before the nonce is used up: else a stranger's junk would end somebody's sign-in.
        """
        address = address.lower()
        open_nonces = await self._nonces.of(address)
        if not open_nonces:
            raise _nonce_gone()
        nonce = self._signed(address, open_nonces, signature)
        if nonce is None:
            nonce = await self._signed_by_contract(address, open_nonces, signature)
        if not await self._nonces.consume(address, nonce):
            raise _nonce_gone()
        return self._tokens.issue(address)

    def _signed(self, address: str, nonces: list[Nonce], signature: str) -> Nonce | None:
        """The nonce that the address' own key signed."""
        try:
            raw = parse_signature(signature)
            return next((one for one in nonces if self._challenge(address, one).signed_by_address(raw)), None)
        except BadSignature:
            return None

    async def _signed_by_contract(self, address: str, nonces: list[Nonce], signature: str) -> Nonce:
        """The nonce that the address' contract says it signed. Raises SignInRefused or ChainUnavailable."""
        raw = parse_contract_signature(signature)
        if raw is None or self._contract_wallets is None:
            raise SignInRefused("Invalid signature")
        hashes = [(digest, nonce) for nonce in nonces for digest in self._challenge(address, nonce).hashes]
        found = await self._contract_wallets.signed(address, [digest for digest, _ in hashes], raw)
        if found is None:
            raise SignInRefused("Invalid signature")
        return hashes[found][1]

    def _challenge(self, address: str, nonce: Nonce) -> Challenge:
        return Challenge(
            address=address,
            nonce=nonce.value,
            origin=nonce.origin,
            issued_ms=nonce.issued_ms,
            chain_id=self._chain_id,
        )


def _nonce_gone() -> SignInRefused:
    return SignInRefused("Nonce not found or expired")
