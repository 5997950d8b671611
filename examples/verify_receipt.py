"""
Checks a receipt without the gateway: whether its signer signed just what it says. Only eth-account is needed.

    python -m examples.verify_receipt receipt.json --contract 0x... --gateway 0x...

Without a file it reads what `GET /api/v1/payment/receipts/<id>` answered from standard input. `gateway()` of the
payment contract says which wallet may sign; without --gateway and --contract, any wallet will do.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from eth_account import Account
from eth_account.messages import encode_typed_data

DOMAIN = {"name": "string", "version": "string", "chainId": "uint256", "verifyingContract": "address"}
RECEIPT = {
    "requestId": "string",
    "user": "address",
    "node": "address",
    "model": "string",
    "promptTokens": "uint256",
    "completionTokens": "uint256",
    "tokens": "uint256",
    "costWei": "uint256",
    "issuedAt": "uint256",
    "settlementTx": "bytes32",
}


class DoesNotHold(Exception):
    """The receipt proves nothing; the text says why."""


def signer_of(domain: dict[str, Any], message: dict[str, Any], signature: str) -> str:
    """Whose signature it is over this message. The types are ours: those of the file may say anything."""
    typed_data = {
        "types": {"EIP712Domain": _fields(DOMAIN), "Receipt": _fields(RECEIPT)},
        "primaryType": "Receipt",
        "domain": {name: domain[name] for name in DOMAIN} | {"name": "Plumise Inference", "version": "1"},
        "message": {name: message[name] for name in RECEIPT},
    }
    signer: str = Account.recover_message(encode_typed_data(full_message=typed_data), signature=signature)
    return signer.lower()


def verified(text: str, contract: str | None = None, gateway: str | None = None) -> dict[str, Any]:
    """What the receipt says, and "signer", "chainId" and "contract". Raises DoesNotHold."""
    try:
        receipt = json.loads(text)
        domain, message = receipt["typed_data"]["domain"], receipt["typed_data"]["message"]
        signer, claimed = signer_of(domain, message, receipt["signature"]), receipt["signer"].lower()
        its_contract = domain["verifyingContract"].lower()
    except Exception as problem:  # the file may be anything
        raise DoesNotHold(f"it can't be read: {problem!r}") from problem
    if signer != claimed:
        raise DoesNotHold(f"it is signed by {signer}, or by nobody, not by {claimed}: something was changed")
    if gateway is not None and signer != gateway.lower():
        raise DoesNotHold(f"it is signed by {signer}, not by the gateway {gateway.lower()}")
    if contract is not None and its_contract != contract.lower():
        raise DoesNotHold(f"it is for the contract {its_contract}, not for {contract.lower()}")
    facts = {name: message[name] for name in RECEIPT}
    return facts | {"chainId": domain["chainId"], "contract": its_contract, "signer": signer}


def _fields(types: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "type": kind} for name, kind in types.items()]


def main() -> None:
    """Prints what the receipt says; the exit code is 1 when it does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=argparse.FileType(encoding="utf-8"), default=sys.stdin)
    parser.add_argument("--contract", help="the payment contract's address")
    parser.add_argument("--gateway", help="the wallet that signs for it")
    options = parser.parse_args()
    with options.file as file:
        text = file.read()
    try:
        facts = verified(text, options.contract, options.gateway)
    except DoesNotHold as problem:
        sys.exit(f"The receipt does not hold: {problem}")
    for name, value in facts.items():
        print(f"{name:17}{value}")
    print("The receipt holds.")


if __name__ == "__main__":
    main()
