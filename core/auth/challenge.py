"""What a wallet is asked to sign: one nonce in three forms, of which it may choose any."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core import wallet

SERVICE = "Plumise Inference API"
STATEMENT = f"Sign this message to authenticate with {SERVICE}."
DOMAIN_TYPE = [
    {"name": "name", "type": "string"},
    {"name": "version", "type": "string"},
    {"name": "chainId", "type": "uint256"},
]
SIGN_IN_TYPE = [
    {"name": "statement", "type": "string"},
    {"name": "address", "type": "address"},
    {"name": "uri", "type": "string"},
    {"name": "nonce", "type": "string"},
    {"name": "issuedAt", "type": "string"},
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenge:
    """
    One sign-in that waits for its signature.

    All three texts follow from these values alone, so the check rebuilds exactly what was handed out.
    """

    address: str  # lower case
    nonce: str  # 64 hex digits
    origin: str  # the site that asks, as scheme://host[:port]
    issued_ms: int  # unix ms
    chain_id: int

    @property
    def message(self) -> str:
        """The plain text of the former service."""
        return f"{STATEMENT}\n\nNonce: {self.nonce}"

    @property
    def typed_data(self) -> dict[str, Any]:
        """Complete EIP-712 JSON, as eth_signTypedData_v4 takes it."""
        return {
            "types": {"EIP712Domain": DOMAIN_TYPE, "SignIn": SIGN_IN_TYPE},
            "primaryType": "SignIn",
            "domain": {"name": SERVICE, "version": "1", "chainId": self.chain_id},
            "message": {
                "statement": STATEMENT,
                "address": wallet.checksum(self.address),
                "uri": self.origin,
                "nonce": self.nonce,
                "issuedAt": self.issued_at,
            },
        }

    @property
    def siwe(self) -> str:
        """Sign-In with Ethereum (ERC-4361): wallets compare its domain with the page that asks."""
        return "\n".join(
            (
                f"{self.origin.partition('://')[2]} wants you to sign in with your Ethereum account:",
                wallet.checksum(self.address),
                "",
                STATEMENT,
                "",
                f"URI: {self.origin}",
                "Version: 1",
                f"Chain ID: {self.chain_id}",
                f"Nonce: {self.nonce}",
                f"Issued At: {self.issued_at}",
            )
        )

    @property
    def issued_at(self) -> str:
        """The moment of issue (RFC 3339)."""
        moment = datetime.fromtimestamp(self.issued_ms / 1000, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    @property
    def hashes(self) -> tuple[bytes, bytes, bytes]:
        """What a contract that signs in the name of the address is asked about: 32 bytes for each of the three."""
        return wallet.hash_text(self.message), wallet.hash_typed(self.typed_data), wallet.hash_text(self.siwe)

    def signed_by_address(self, signature: bytes) -> bool:
        """Whether the address itself made this signature over one of the three. Raises wallet.BadSignature."""
        return (
            wallet.recover_text(self.message, signature) == self.address
            or wallet.recover_typed(self.typed_data, signature) == self.address
            or wallet.recover_text(self.siwe, signature) == self.address
        )
