"""The API document's part on signing in."""

from __future__ import annotations

from blueprints import api_shapes as plain
from blueprints.api_answers import Part, answer, body, native_errors
from blueprints.api_operation import WALLET, Operation
from core.auth.challenge import Challenge

ADDRESS = "0x742d35cc6634c0532925a3b844bc9e7595f0beb0"
SIGNATURE = "0x" + "1b" * 65

_CHALLENGE = Challenge(
    address=ADDRESS, nonce="7f" * 32, origin="http://localhost:3000", issued_ms=1_780_000_000_000, chain_id=41956
)
CHALLENGE = {
    "nonce": _CHALLENGE.nonce,
    "message": _CHALLENGE.message,
    "typedData": _CHALLENGE.typed_data,
    "siwe": _CHALLENGE.siwe,
}


def _json_or_form(content: Part) -> Part:
    return content | {"application/x-www-form-urlencoded": content["application/json"]}


SIGN_IN = (
    Operation(
        route="post /api/v1/auth/nonce",
        id="createNonce",
        summary="Ask for a text to sign",
        description="The nonce is good for five minutes and for one sign-in. Sign any one of its three forms.",
        body=_json_or_form(body(plain.NonceRequest, wallet={"address": ADDRESS})),
        answers={201: answer("What the wallet may sign.", body(plain.SignInChallenge, three_forms=CHALLENGE))}
        | native_errors(400, 408, 413, 503),
    ),
    Operation(
        route="post /api/v1/auth/verify",
        id="verifySignature",
        summary="Trade the signature for a token",
        body=_json_or_form(body(plain.VerifyRequest, wallet={"address": ADDRESS, "signature": SIGNATURE})),
        answers={201: answer("The token.", body(plain.Token)), **native_errors(400, 408, 413, 503)}
        | {401: answer("The nonce is gone, or this is not the address's signature.", body(plain.NativeError))},
    ),
    Operation(
        route="get /api/v1/auth/me",
        id="getAccount",
        summary="Whose token this is",
        security=WALLET,
        answers={200: answer("The wallet and its tier.", body(plain.Account))} | native_errors(401, 503),
    ),
    Operation(
        route="post /api/v1/auth/logout",
        id="signOut",
        summary="Sign out",
        description="Ends the token that is used to ask, at once and everywhere.",
        security=WALLET,
        answers={201: answer("Signed out.", body(plain.SignedOut))} | native_errors(401, 408, 413, 503),
    ),
)
