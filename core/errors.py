"""
Every error that a client may be told of.

    GatewayError                     status, code and message; never a stack trace
    ├── InvalidRequest          400  one or several complaints about the body
    │   ├── UnknownModel        400  (404 on the OpenAI doors)
    │   ├── ProModel            400  (403 on the OpenAI doors)
    │   └── TooManyTokens       400
    ├── Unauthenticated         401  no token, or one that can't be trusted
    │   └── SignInRefused       401  nonce or signature
    ├── KeyRefused              401  the key that the network's programs share
    ├── InsufficientCredit      402  the deposit does not pay for the request
    ├── RateLimited             429  carries the quota
    ├── TooMuchUnsettled        429  too much is used that is not paid on the chain yet; carries Retry-After
    ├── NodeRefused             400  the node refuses what was asked: the request's fault
    ├── UnknownEncoding         415  the body is compressed in a way that is not known here
    ├── UnknownResource         404  what the path names is not there
    │   ├── PaymentOff          404  this gateway has no payment contract
    │   ├── UnknownAnswer       404  nobody keeps an answer of that name for this caller
    │   └── UnknownReceipt      404  the caller was charged nothing under that id
    ├── AnswerExists            409  the name is in use
    ├── AnswerMoved             409  a newer link listens to the answer now
    ├── IdempotencyConflict     409  the request with this Idempotency-Key is under way
    ├── IdempotencyMismatch     422  the Idempotency-Key belongs to another request
    └── Unavailable             503  try again later; carries Retry-After
        ├── StoreUnavailable    503  Redis is away
        ├── ChainUnavailable    503  the chain does not answer
        ├── SignerAway          503  the process that signs receipts does not answer
        ├── ShuttingDown        503
        ├── AnswerLost          503  the worker that made the answer is gone
        ├── AnswerLeft          503  who asked for the answer left in its middle
        ├── AnswerFailed        503  the answer, given again, ends as it ended the first time
        ├── NoNodes             503  no healthy node serves the model
        └── NodesFailed         503  every attempt failed, or the deadline passed

`status` is the one of the former service's shape, `openai_status` the one of the OpenAI shape where it differs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.chain.amounts import plm


class GatewayError(Exception):
    """An answer that is not 2xx. `message` is one text, or a list of them when a body has several faults."""

    status = 500
    openai_status: int | None = None
    code: str | None = None  # OpenAI's machine-readable code
    reason: str | None = None  # the former service's `error` field; None leaves it out

    def __init__(
        self,
        message: str | list[str],
        *,
        param: str | None = None,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.details = details
        self.headers = dict(headers or {})

    @property
    def text(self) -> str:
        """The message as one line."""
        return self.message if isinstance(self.message, str) else "; ".join(self.message)


class InvalidRequest(GatewayError):
    """The body, a parameter or the path can't be used as it is."""

    status = 400
    reason = "Bad Request"


class UnknownModel(InvalidRequest):
    """The catalogue has no such model."""

    openai_status = 404
    code = "model_not_found"

    def __init__(self, model: str) -> None:
        super().__init__(f"Model {model} not found", param="model")


class ProModel(InvalidRequest):
    """The model is for Pro users."""

    openai_status = 403
    code = "model_requires_pro"

    def __init__(self, model: str) -> None:
        super().__init__(f"Model {model} requires Pro tier", param="model")


class TooManyTokens(InvalidRequest):
    """`max_tokens` is over what the tier or the model allows."""

    code = "max_tokens_exceeded"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="max_tokens")


class NodeRefused(InvalidRequest):
    """A node answered 4xx: another node would say the same, so it is passed on once."""

    code = "node_refused"


class Unauthenticated(GatewayError):
    """The caller is not known. The former service's shape has no `error` field here."""

    status = 401
    code = "invalid_api_key"

    def __init__(self, message: str = "Unauthorized") -> None:
        super().__init__(message, headers={"WWW-Authenticate": "Bearer"})


class SignInRefused(GatewayError):
    """The nonce is gone or the signature is not the address's own."""

    status = 401
    reason = "Unauthorized"
    code = "invalid_signature"


class KeyRefused(GatewayError):
    """The key that the network's programs share is wrong, or this gateway has none."""

    status = 401
    reason = "Unauthorized"
    code = "invalid_api_key"


class UnknownEncoding(GatewayError):
    """The body's Content-Encoding is none that can be undone. The former service's shape has no `error` field here."""

    status = 415
    code = "unsupported_encoding"

    def __init__(self, encoding: str) -> None:
        super().__init__(f'unsupported content encoding "{encoding}"')


class UnknownResource(GatewayError):
    """What the path names is not there."""

    status = 404
    reason = "Not Found"
    code = "not_found"


class PaymentOff(UnknownResource):
    """Nobody can pay here, and everybody is Free."""

    code = "payment_off"

    def __init__(self) -> None:
        super().__init__("Payments are not enabled on this gateway")


class UnknownAnswer(UnknownResource):
    """The caller has no answer of this name that is still kept, or not from the asked place on."""

    code = "answer_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Answer {name} not found")


class UnknownReceipt(UnknownResource):
    """The caller has no charge of this id, or none any more."""

    code = "receipt_not_found"

    def __init__(self, name: str) -> None:
        super().__init__(f"Receipt {name} not found")


class AnswerExists(GatewayError):
    """The caller has an answer of this name already."""

    status = 409
    reason = "Conflict"
    code = "answer_exists"

    def __init__(self, name: str) -> None:
        super().__init__(f"Answer {name} exists already")


class AnswerMoved(GatewayError):
    """The answer goes on at another link of the same caller."""

    status = 409
    reason = "Conflict"
    code = "answer_moved"

    def __init__(self) -> None:
        super().__init__("The answer was resumed elsewhere")


class IdempotencyConflict(GatewayError):
    """The request that this Idempotency-Key belongs to has no answer yet."""

    status = 409
    reason = "Conflict"
    code = "idempotency_in_flight"

    def __init__(self) -> None:
        super().__init__("A request with this Idempotency-Key is still being answered", headers={"Retry-After": "1"})


class IdempotencyMismatch(GatewayError):
    """This Idempotency-Key was used with another body, or at another door."""

    status = 422
    reason = "Unprocessable Entity"
    code = "idempotency_mismatch"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key belongs to another request")


class RateLimited(GatewayError):
    """The Free quota is used up; `details` and headers say until when."""

    status = 429
    reason = "Too Many Requests"
    code = "rate_limit_exceeded"


class InsufficientCredit(GatewayError):
    """The deposit, less what is used and what is asked already, does not pay for this. Amounts are wei."""

    status = 402
    reason = "Payment Required"
    code = "insufficient_quota"

    def __init__(self, required: int, available: int) -> None:
        super().__init__(
            "The deposit does not pay for this request",
            details={"required_plm": plm(required), "available_plm": plm(available)},
        )


class TooMuchUnsettled(GatewayError):
    """As much of the caller's use waits for the chain as may; soon some of it is settled."""

    status = 429
    reason = "Too Many Requests"
    code = "unsettled_limit"

    def __init__(self) -> None:
        super().__init__("Too many tokens wait to be settled on the chain", headers={"Retry-After": "5"})


class Unavailable(GatewayError):
    """Nothing is wrong with the request; later it will do."""

    status = 503
    reason = "Service Unavailable"
    code: str | None = "unavailable"

    def __init__(self, message: str, *, retry_after_s: int = 1) -> None:
        super().__init__(message, headers={"Retry-After": str(retry_after_s)})


class StoreUnavailable(Unavailable):
    """
    Redis does not answer: nobody is served unlimited because of it.

    Or it answers that it does not do it: then `refusal` is its word, such as OOM, for the operator alone.
    """

    code = "store_unavailable"

    def __init__(self, refusal: str = "") -> None:
        self.refusal = refusal
        super().__init__("The gateway's store is not available. Please try again later.")


class ChainUnavailable(Unavailable):
    """The chain's endpoint does not answer, or is of another chain: what only the chain knows can't be told."""

    code = "chain_unavailable"

    def __init__(self) -> None:
        super().__init__("The chain is not available. Please try again later.")


class SignerAway(Unavailable):
    """The settler, which has the key that receipts are signed with, does not answer."""

    code = "signer_unavailable"

    def __init__(self) -> None:
        super().__init__("The settler is away. Please try again later.", retry_after_s=5)


class ShuttingDown(Unavailable):
    """This worker is about to end; another one will answer."""

    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("The gateway is restarting. Please try again.")


class AnswerLost(Unavailable):
    """The worker that made the answer does not reply any more."""

    code = "answer_lost"

    def __init__(self) -> None:
        super().__init__("The answer was lost. Please try again.")


class AnswerLeft(Unavailable):
    """A kept answer was made until the one who had asked for it left; he never saw this error himself."""

    code = "client_left"

    def __init__(self) -> None:
        super().__init__("The answer ends here: its connection was closed at this point.")


class AnswerFailed(Unavailable):
    """A kept answer ended with an error: it is told once more, with the same code and message."""

    def __init__(self, code: str | None, message: str) -> None:
        super().__init__(message)
        self.code = code


class NoNodes(Unavailable):
    """No node that serves the model is healthy."""

    code = "no_nodes"

    def __init__(self, message: str = "No inference nodes available. Please try again later.") -> None:
        super().__init__(message, retry_after_s=5)


class NodesFailed(Unavailable):
    """All attempts failed, or an answer broke off after its first token."""

    code = "nodes_failed"

    def __init__(self, message: str = "All inference nodes failed. Please try again later.") -> None:
        super().__init__(message)
