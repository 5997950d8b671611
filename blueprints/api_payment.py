"""The API document's part on payment."""

from __future__ import annotations

from blueprints import api_shapes as plain
from blueprints.api_answers import answer, body, native_errors
from blueprints.api_operation import WALLET, Operation

PAYMENT = (
    Operation(
        route="get /api/v1/payment/balance",
        id="getBalance",
        summary="The deposit and the price",
        security=WALLET,
        answers={200: answer("What the payment contract says.", body(plain.PaymentBalance))}
        | native_errors(401, 404, 503),
    ),
    Operation(
        route="post /api/v1/payment/deposit",
        id="createDeposit",
        summary="How to pay in",
        description="Gives a transaction; the wallet signs and sends it. Nothing is charged by asking.",
        security=WALLET,
        body=body(plain.DepositRequest, enough={"amount": "150"}),
        answers={201: answer("The transaction.", body(plain.Deposit))} | native_errors(400, 401, 404, 408, 413, 503),
    ),
)
