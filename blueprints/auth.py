"""Signing in with a wallet, asking who one is, signing out."""

from __future__ import annotations

from typing import Any

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.routing import READ
from core.access.tiers import TierResolver
from core.auth.caller import Caller
from core.auth.sign_in import SignIn
from core.auth.tokens import TokenService
from core.body import decode_object
from core.errors import InvalidRequest
from core.wallet import is_address

bp = Blueprint("auth", url_prefix="/api/v1/auth")


@bp.post("/nonce")
async def nonce(request: Request, sign_in: SignIn) -> HTTPResponse:
    """What the wallet is to sign: any one of message, typedData and siwe."""
    fields = _fields(request, "address")
    challenge = await sign_in.challenge(fields["address"], request.headers.get("origin"))
    return json(
        {
            "nonce": challenge.nonce,
            "message": challenge.message,
            "typedData": challenge.typed_data,
            "siwe": challenge.siwe,
        },
        201,
    )


@bp.post("/verify")
async def verify(request: Request, sign_in: SignIn) -> HTTPResponse:
    """A signature for a token."""
    fields = _fields(request, "address", "signature")
    return json({"token": await sign_in.verify(fields["address"], fields["signature"])}, 201)


@bp.route("/me", methods=READ)
async def me(_: Request, caller: Caller, tokens: TokenService, tiers: TierResolver) -> HTTPResponse:
    """The caller's address and tier."""
    await tokens.ensure_live(caller)
    return json({"address": caller.subject, "tier": await tiers.tier_of(caller)})


@bp.post("/logout")
async def logout(_: Request, caller: Caller, tokens: TokenService) -> HTTPResponse:
    """Ends the token that was used to ask."""
    await tokens.revoke(caller)
    return json({"status": "ok"}, 201)


def _fields(request: Request, *names: str) -> dict[str, str]:
    """The body's fields, in the former service's words and order where they are wrong. Raises InvalidRequest."""
    body = decode_object(request.body, request.headers.get("content-type", ""))
    complaints = [f"property {name} should not exist" for name in body if name not in names]
    if not _is_address(body.get("address")):
        complaints.append("address must be an Ethereum address")
    complaints += [f"{name} must be a string" for name in names if not isinstance(body.get(name), str)]
    if complaints:
        raise InvalidRequest(complaints)
    return body


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and is_address(value)
