"""What a receipt says: typed data (EIP-712) that anybody can check, without the gateway and for ever."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOBODY = "0x" + "00" * 20
NO_TRANSACTION = "0x" + "00" * 32
DOMAIN_TYPE = (("name", "string"), ("version", "string"), ("chainId", "uint256"), ("verifyingContract", "address"))
RECEIPT_TYPE = (
    ("requestId", "string"),
    ("user", "address"),
    ("node", "address"),
    ("model", "string"),
    ("promptTokens", "uint256"),
    ("completionTokens", "uint256"),
    ("tokens", "uint256"),
    ("costWei", "uint256"),
    ("issuedAt", "uint256"),
    ("settlementTx", "bytes32"),
)


@dataclass(frozen=True, slots=True)
class Seal:
    """The contract and chain that receipts are for: one of another gateway or chain has another signature."""

    chain_id: int
    contract: str  # lower-case address


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One answer that was charged. Addresses are lower-case."""

    request_id: str
    user: str
    node: str  # NOBODY when the node's wallet is not known
    model: str
    prompt_tokens: int
    completion_tokens: int
    tokens: int
    cost: int  # wei, at the price that the request was let in with
    issued_at: int  # unix seconds of the charge, so that the same receipt is signed the same whenever it is asked for
    settlement: str  # the transaction that was final with its last token, else NO_TRANSACTION

    def typed_data(self, seal: Seal) -> dict[str, Any]:
        """As eth_signTypedData_v4 takes it; numbers are decimal strings, which no JSON parser rounds."""
        return {
            "types": {"EIP712Domain": _fields(DOMAIN_TYPE), "Receipt": _fields(RECEIPT_TYPE)},
            "primaryType": "Receipt",
            "domain": {
                "name": "Plumise Inference",
                "version": "1",
                "chainId": seal.chain_id,
                "verifyingContract": seal.contract,
            },
            "message": {
                "requestId": self.request_id,
                "user": self.user,
                "node": self.node,
                "model": self.model,
                "promptTokens": str(self.prompt_tokens),
                "completionTokens": str(self.completion_tokens),
                "tokens": str(self.tokens),
                "costWei": str(self.cost),
                "issuedAt": str(self.issued_at),
                "settlementTx": self.settlement,
            },
        }


def _fields(types: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in types]
