"""Users of the gateway under test: each a new wallet, signed in over HTTP."""

from __future__ import annotations

import secrets

from tests.e2e.client import post
from tests.fakes.wallet import Wallet


def new_wallet() -> Wallet:
    """A wallet that nobody has seen before."""
    return Wallet(secrets.token_bytes(32))


def ask_nonce(url: str, wallet: Wallet) -> dict[str, str]:
    """What the wallet may sign."""
    answer = post(url, "/api/v1/auth/nonce", {"address": wallet.checksummed})
    assert answer.status == 201, answer.body
    challenge: dict[str, str] = answer.json()
    return challenge


def sign_in(url: str, wallet: Wallet | None = None) -> str:
    """A token of the wallet, or of a new one."""
    wallet = wallet or new_wallet()
    signature = wallet.sign(ask_nonce(url, wallet)["message"])
    answer = post(url, "/api/v1/auth/verify", {"address": wallet.checksummed, "signature": signature})
    assert answer.status == 201, answer.body
    token: str = answer.json()["token"]
    return token
