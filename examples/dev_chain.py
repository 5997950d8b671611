"""A chain on this machine: anvil, from npm, with the payment contract on it."""

from __future__ import annotations

import json
import platform
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from eth_abi.abi import encode
from eth_account import Account

ROOT = Path(__file__).resolve().parent.parent
CHAIN_ID = 41956
# The first account of anvil's published test mnemonic: everybody has its key.
RICH_KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def anvil_binary() -> Path:
    """Where npm put it."""
    name = f"anvil-{sys.platform}-{ARCHITECTURES[platform.machine()]}"
    return ROOT / "tests/js/node_modules/@foundry-rs" / name / "bin/anvil"


def rpc(url: str, method: str, *params: Any) -> Any:
    """The result of one JSON-RPC call. Raises OSError, or SystemExit with the chain's words."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        said = json.load(answer)
    if "error" in said:
        raise SystemExit(f"The chain says: {said['error']['message']}")
    return said["result"]


def deploy_payment_contract(url: str) -> str:
    """The address of a new payment contract, whose gateway and owner is the account of RICH_KEY."""
    artefact = json.loads((ROOT / "core/chain/InferencePayment.json").read_text())
    account = Account.from_key(RICH_KEY)
    data = artefact["bytecode"] + encode(["address", "address"], [account.address, account.address]).hex()
    nonce = int(rpc(url, "eth_getTransactionCount", account.address, "pending"), 16)
    transaction = {"nonce": nonce, "gas": 3_000_000, "gasPrice": 2 * 10**9, "chainId": CHAIN_ID, "data": data}
    raw = account.sign_transaction({**transaction, "value": 0}).raw_transaction.to_0x_hex()
    return str(mined(url, rpc(url, "eth_sendRawTransaction", raw))["contractAddress"])


def mined(url: str, transaction: str) -> dict[str, Any]:
    """The transaction's receipt, once it is in a block."""
    for _ in range(200):
        receipt: dict[str, Any] | None = rpc(url, "eth_getTransactionReceipt", transaction)
        if receipt is not None:
            return receipt
        time.sleep(0.05)
    raise SystemExit("The transaction is not mined after 10 s.")


def fund(url: str, address: str, wei: int) -> None:
    """Gives an address of this chain so much."""
    rpc(url, "anvil_setBalance", address, hex(wei))
