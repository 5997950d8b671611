"""Signing in: a wallet proves that it owns an address, and gets a token for it."""

from __future__ import annotations

from collections.abc import Sequence

from core.auth.challenge import Challenge
from core.auth.nonces import Nonce, Nonces
from core.auth.tokens import TokenService
from core.errors import SignInRefused
from core.wallet import BadSignature, parse_signature


class SignIn:
    """
    The two steps of a sign-in.

    `origins` are the sites that may ask; the first stands for whoever is none of them. Every method takes
    an address in any letter case, and raises StoreUnavailable.
    """

    def __init__(self, nonces: Nonces, tokens: TokenService, chain_id: int, origins: Sequence[str]) -> None:
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
        A token for the address. Raises SignInRefused.

        The signature is checked before the nonce is used up: else a stranger's junk would end somebody's sign-in.
        """
        address = address.lower()
        open_nonces = await self._nonces.of(address)
        if not open_nonces:
            raise _nonce_gone()
        nonce = self._signed(address, open_nonces, signature)
        if not await self._nonces.consume(address, nonce):
            raise _nonce_gone()
        return self._tokens.issue(address)

    def _signed(self, address: str, nonces: list[Nonce], signature: str) -> Nonce:
        try:
            raw = parse_signature(signature)
            return next(nonce for nonce in nonces if self._challenge(address, nonce).signed_by_address(raw))
        except (BadSignature, StopIteration):
            raise SignInRefused("Invalid signature") from None

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
