"""What there is at the payment contract, and how to pay in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.routing import READ
from core.auth.caller import Caller
from core.auth.tokens import TokenService
from core.billing.payments import Payments
from core.body import decode_object
from core.chain.amounts import plm, wei
from core.errors import InvalidRequest

bp = Blueprint("payment", url_prefix="/api/v1/payment")


@bp.route("/balance", methods=READ)
async def balance(_: Request, caller: Caller, tokens: TokenService, payments: Payments) -> HTTPResponse:
    """The caller's deposit."""
    await tokens.ensure_live(caller)
    found = await payments.balance(caller)
    dues, cost = found.dues, found.terms.cost_per_1000_tokens
    return json(
        {
            "address": caller.subject,
            "tier": found.standing.tier,
            "source": found.standing.source,
            "balance_wei": str(found.credit.balance),
            "balance_plm": plm(found.credit.balance),
            "outstanding_tokens": dues.outstanding,
            "outstanding_plm": plm(found.cost(dues.outstanding)),
            "reserved_tokens": dues.reserved,
            "reserved_plm": plm(found.cost(dues.reserved)),
            "left_wei": str(found.left),
            "left_plm": plm(found.left),
            "debt": dues.in_debt,
            "cost_per_1000_tokens_wei": str(cost),
            "cost_per_1000_tokens_plm": plm(cost),
        }
    )


@bp.post("/deposit")
async def deposit(request: Request, caller: Caller, tokens: TokenService, payments: Payments) -> HTTPResponse:
    """A transaction that pays in the given amount."""
    await tokens.ensure_live(caller)
    payments.ensure_on()
    amount = _amount(decode_object(request.body, request.headers.get("content-type", "")))
    offer = asdict(await payments.deposit(caller, amount))
    amount_wei, missing_wei = offer.pop("amount_wei"), offer.pop("missing_for_pro_wei")
    amounts = {
        "amount_wei": str(amount_wei),
        "amount_plm": plm(amount_wei),
        "missing_for_pro_plm": plm(missing_wei),
    }
    return json(offer | amounts, 201)


def _amount(body: dict[str, Any]) -> int:
    """The amount in wei. Raises InvalidRequest."""
    complaints = [f"property {name} should not exist" for name in body if name != "amount"]
    given = body.get("amount")
    amount = wei(given) if isinstance(given, str) else None
    if not amount:
        complaints.append("amount must be a decimal string of PLM greater than 0")
    if complaints:
        raise InvalidRequest(complaints)
    return amount or 0
