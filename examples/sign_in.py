"""Signs a wallet in and prints its token, which is good as a bearer token and as an OpenAI API key."""

from __future__ import annotations

import argparse
import http.client
import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_account.signers.local import LocalAccount


def post(url: str, body: dict[str, Any], token: str = "") -> http.client.HTTPResponse:
    """Posts JSON and returns the open answer; a refusal ends the program with the gateway's own words."""
    headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        return cast("http.client.HTTPResponse", urllib.request.urlopen(request, timeout=120))
    except urllib.error.HTTPError as refusal:
        raise SystemExit(f"{url}: {refusal.code} {refusal.read().decode(errors='replace')}") from None
    except OSError as problem:
        raise SystemExit(f"{url}: {problem}. Is the gateway running? (make run)") from None


def sign_in(base_url: str, account: LocalAccount) -> str:
    """A token for the account's address: ask for a challenge, sign its message (EIP-191), hand the signature in."""
    with post(f"{base_url}/api/v1/auth/nonce", {"address": account.address}) as answer:
        message = json.load(answer)["message"]
    signature = account.sign_message(encode_defunct(text=message)).signature.to_0x_hex()
    with post(f"{base_url}/api/v1/auth/verify", {"address": account.address, "signature": signature}) as answer:
        return str(json.load(answer)["token"])


def wallet(key_file: Path | None) -> LocalAccount:
    """The wallet whose private key stands in the file, or a new one that nobody will ever use again."""
    account = Account.from_key(key_file.read_text().strip()) if key_file else Account.create()
    return cast("LocalAccount", account)


def arguments(description: str | None) -> argparse.ArgumentParser:
    """The options that all examples share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--url", default="http://localhost:3200", help="the gateway (default: %(default)s)")
    parser.add_argument("--key-file", type=Path, help="a file with a private key; a throw-away wallet when left out")
    return parser


if __name__ == "__main__":
    options = arguments(__doc__).parse_args()
    print(sign_in(options.url, wallet(options.key_file)))
