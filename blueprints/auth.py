"""Signing in with a wallet, asking who one is, signing out."""

from __future__ import annotations

from typing import Any

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.bodies import ensure_small
from blueprints.routing import READ
from core.access.grant import Quota
from core.access.tiers import Standings
from core.access.window import QuotaWindow
from core.auth.caller import Caller
from core.auth.sign_in import SignIn
from core.auth.tokens import TokenService
from core.body import decode_object
from core.catalog import Tier
from core.chain.amounts import plm
from core.clock import iso
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
async def me(
    _: Request, caller: Caller, tokens: TokenService, standings: Standings, window: QuotaWindow
) -> HTTPResponse:
    """The caller's address and tier, as ever; besides these his deposit, and his quota while he is Free."""
    await tokens.ensure_live(caller)
    standing = await standings.standing_of(caller)
    balance = None if standing.credit is None else standing.credit.balance
    quota = await window.of(caller.subject) if standing.tier is Tier.FREE else None
    return json(
        {
            "address": caller.subject,
            "tier": standing.tier,
            "tier_source": standing.source,
            "balance_wei": None if balance is None else str(balance),
            "balance_plm": None if balance is None else plm(balance),
            "rate_limit": None if quota is None else _shown(quota),
        }
    )


@bp.post("/logout")
async def logout(_: Request, caller: Caller, tokens: TokenService) -> HTTPResponse:
    """Ends the token that was used to ask."""
    await tokens.revoke(caller)
    return json({"status": "ok"}, 201)


def _shown(quota: Quota) -> dict[str, Any]:
    reset_at = iso(quota.reset_at_ms / 1000) if quota.used else None
    return {"used": quota.used, "limit": quota.limit, "resetAt": reset_at}


def _fields(request: Request, *names: str) -> dict[str, str]:
    """The body's fields, in the former service's words and order where they are wrong. Raises InvalidRequest."""
    ensure_small(request)
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
