"""Pays into the payment contract of `make run CHAIN=1` and waits until the gateway sees a Pro user."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from pathlib import Path
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address

from examples.dev_chain import fund, mined, rpc
from examples.sign_in import arguments, post, sign_in, wallet

KEY_FILE = Path("data/demo/wallet.key")
WEI = 10**18
GAS = {"gas": 200_000, "gasPrice": 2 * 10**9}
PATIENCE_S = 15


def kept_wallet(key_file: Path) -> LocalAccount:
    """The wallet of the file; a new one is made where there is none."""
    if not key_file.exists():
        key_file.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(Account.create().key.to_0x_hex())
    return wallet(key_file)


def pay_in(base_url: str, chain_url: str, account: LocalAccount, token: str, amount: str) -> dict[str, Any]:
    """Asks the gateway for the transaction, signs and sends it; the gateway's offer."""
    with post(f"{base_url}/api/v1/payment/deposit", {"amount": amount}, token) as answer:
        offer: dict[str, Any] = json.load(answer)
    nonce = int(rpc(chain_url, "eth_getTransactionCount", account.address, "pending"), 16)
    transaction = {**offer["transaction"], **GAS, "nonce": nonce, "to": to_checksum_address(offer["contract"])}
    raw = account.sign_transaction(transaction).raw_transaction.to_0x_hex()
    mined(chain_url, rpc(chain_url, "eth_sendRawTransaction", raw))
    return offer


def me(base_url: str, token: str) -> dict[str, Any]:
    """What the gateway says of the wallet."""
    request = urllib.request.Request(f"{base_url}/api/v1/auth/me", headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=20) as answer:
        said: dict[str, Any] = json.load(answer)
    return said


def main() -> None:
    """Pays in and reports."""
    parser = arguments(__doc__)
    parser.add_argument("--amount", default="150", help="PLM (default: %(default)s)")
    parser.add_argument("--chain", default="http://127.0.0.1:26902", help="the chain (default: %(default)s)")
    options = parser.parse_args()
    key_file = options.key_file or KEY_FILE
    account = kept_wallet(key_file)
    token = sign_in(options.url, account)
    before = me(options.url, token)["balance_wei"]
    fund(options.chain, account.address, 1_000_000 * WEI)
    offer = pay_in(options.url, options.chain, account, token, options.amount)
    print(offer["note"])
    deadline = time.monotonic() + PATIENCE_S
    while (now := me(options.url, token))["balance_wei"] == before:
        if time.monotonic() > deadline:
            raise SystemExit(f"The gateway has not heard of the deposit after {PATIENCE_S} s.")
        time.sleep(0.2)
    print(f"{account.address} is {now['tier']}, with {now['balance_plm']} PLM. Its key is in {key_file}.")


if __name__ == "__main__":
    main()
