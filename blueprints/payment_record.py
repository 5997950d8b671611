"""What a user has paid, and his receipts for it."""

from __future__ import annotations

import re
from typing import Any

from sanic import Blueprint, HTTPResponse, Request
from sanic.response import json

from blueprints.routing import READ
from core import complaints
from core.auth.caller import Caller
from core.auth.tokens import TokenService
from core.billing.history import History
from core.billing.receipts import Receipts
from core.chain.amounts import plm
from core.clock import iso
from core.errors import InvalidRequest
from core.settlement.journal import Settlement

bp = Blueprint("payment_record", url_prefix="/api/v1/payment")
USUAL_LIMIT = 20  # settlements a page
MOST = {"limit": 100, "before": complaints.LARGEST}
WHOLE = re.compile(r"[0-9]{1,16}", re.ASCII)


@bp.route("/history", methods=READ)
async def history(request: Request, caller: Caller, tokens: TokenService, history: History) -> HTTPResponse:
    """The caller's settlements, the newest first."""
    await tokens.ensure_live(caller)
    limit, before = _page(request)
    page = await history.page(caller, limit, before)
    return json(
        {
            "settlements": [_settlement(settled, requests) for settled, requests in page.settlements],
            "next": page.next,
            "unsettled": {"tokens": page.unsettled_tokens, "requests": page.unsettled_requests},
        }
    )


@bp.route("/receipts/<request_id:str>", methods=READ)
async def receipt(
    _: Request, request_id: str, caller: Caller, tokens: TokenService, receipts: Receipts
) -> HTTPResponse:
    """The receipt of one of the caller's answers."""
    await tokens.ensure_live(caller)
    entry = await receipts.of(caller, request_id)
    return json({"typed_data": entry.typed_data, "signature": entry.signature, "signer": entry.signer})


def _page(request: Request) -> tuple[int, int | None]:
    """`limit` and `before`. Raises InvalidRequest."""
    given: dict[str, Any] = {
        name: _number(values[0]) for name, values in request.get_args(keep_blank_values=True).items()
    }
    found = [f"property {name} should not exist" for name in given if name not in MOST]
    for name, most in MOST.items():
        found += complaints.number(name, given.get(name, 1), 1, most)
    if found:
        raise InvalidRequest(found)
    return given.get("limit", USUAL_LIMIT), given.get("before")


def _number(text: str) -> int | None:
    return int(text) if WHOLE.fullmatch(text) else None


def _settlement(settled: Settlement, requests: list[str]) -> dict[str, Any]:
    return {
        "tx": settled.tx,
        "block": settled.block,
        "tokens": settled.tokens,
        "cost_wei": settled.cost_wei,
        "cost_plm": plm(int(settled.cost_wei)),
        "at": iso(settled.at / 1000),
        "requests": requests,
    }
