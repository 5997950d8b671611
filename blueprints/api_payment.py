"""The API document's part on payment."""

from __future__ import annotations

from blueprints import api_payment_shapes as payment
from blueprints.api_answers import answer, body, native_errors
from blueprints.api_operation import REQUEST_ID, WALLET, Operation, in_path, in_query
from core.complaints import LARGEST

PAYMENT = (
    Operation(
        route="get /api/v1/payment/balance",
        id="getBalance",
        summary="The deposit and the price",
        security=WALLET,
        answers={200: answer("What the payment contract says.", body(payment.PaymentBalance))}
        | native_errors(401, 404, 503),
    ),
    Operation(
        route="post /api/v1/payment/deposit",
        id="createDeposit",
        summary="How to pay in",
        description="Gives a transaction; the wallet signs and sends it. Nothing is charged by asking.",
        security=WALLET,
        body=body(payment.DepositRequest, enough={"amount": "150"}),
        answers={201: answer("The transaction.", body(payment.Deposit))} | native_errors(400, 401, 404, 408, 413, 503),
    ),
    Operation(
        route="get /api/v1/payment/history",
        id="listSettlements",
        summary="What was debited, and for which answers",
        security=WALLET,
        parameters=(
            in_query("limit", {"type": "integer", "minimum": 1, "maximum": 100, "default": 20}, 20),
            in_query("before", {"type": "integer", "minimum": 1, "maximum": LARGEST}, 120_000),
        ),
        answers={200: answer("The settlements.", body(payment.History))} | native_errors(400, 401, 404, 503),
    ),
    Operation(
        route="get /api/v1/payment/receipts/{request_id}",
        id="getReceipt",
        summary="The signed receipt of one answer",
        description="Anybody can check it offline, with `eth_signTypedData_v4`'s rules. Its signature is another one"
        " once the answer is settled: then it names the transaction.",
        security=WALLET,
        parameters=(in_path("request_id", "The answer's id, from any door.", REQUEST_ID),),
        answers={200: answer("The receipt.", body(payment.SignedReceipt))} | native_errors(400, 401, 404, 413, 503),
    ),
)
