"""The API document: OpenAPI 3.1, for people on the docs page and for programs that make clients of it."""

from __future__ import annotations

import msgspec

from blueprints.api_answers import Part, headers
from blueprints.api_inference import INFERENCE
from blueprints.api_network import DOCUMENT, HEALTH, MODELS, NODES, REPORTS
from blueprints.api_openai import OPENAI
from blueprints.api_operation import Operation
from blueprints.api_payment import PAYMENT
from blueprints.api_schemas import schemas
from blueprints.api_sign_in import SIGN_IN

SECTIONS: dict[str, tuple[str, tuple[Operation, ...]]] = {
    "Sign-in": ("A wallet proves that it owns its address, and gets a token for it.", SIGN_IN),
    "Inference": ("Answers from the network's models, whole or streamed.", INFERENCE),
    "OpenAI": ("The same for any OpenAI client: base URL `/v1`, the token as its API key.", OPENAI),
    "Payment": ("Pro is paid from a deposit at the payment contract.", PAYMENT),
    "Models": ("What can be asked for.", MODELS),
    "Nodes": ("Who serves it.", NODES),
    "Reports": ("What agents say of themselves.", REPORTS),
    "Health": ("For load balancers and monitors.", HEALTH),
    "Document": ("This description of the API.", DOCUMENT),
}
INTRODUCTION = """\
Wallet-authenticated access to the Plumise network's language models.

1. `POST /api/v1/auth/nonce` with your address gives a text to sign.
2. Sign it with your wallet and trade the signature for a token at `POST /api/v1/auth/verify`.
3. Send the token as `Authorization: Bearer <token>` to the inference doors, or give it to an OpenAI client as API key.

The Free tier has a quota of requests in a rolling window; answers carry what is left of it in their headers.
Every answer has an `X-Request-Id`; send your own to find a request again. `GET` routes answer `HEAD` too, and a slash
at a path's end does not matter."""
SECURITY: dict[str, Part] = {
    "wallet": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "The token that a sign-in yields. Agents may sign each request instead, with the headers"
        " X-Agent-Address, X-Agent-Timestamp and X-Agent-Signature.",
    },
    "operator": {
        "type": "http",
        "scheme": "bearer",
        "description": "The gateway operator's own key, if there is one.",
    },
}


def document() -> Part:
    """The whole document."""
    paths: dict[str, Part] = {}
    for tag, (_, operations) in SECTIONS.items():
        for operation in operations:
            paths.setdefault(operation.path, {})[operation.method] = operation.written(tag)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Plumise Inference API",
            "version": "1.0.0",
            "description": INTRODUCTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "tags": [{"name": tag, "description": about} for tag, (about, _) in SECTIONS.items()],
        "paths": paths,
        "components": {"schemas": schemas(), "headers": headers(), "securitySchemes": SECURITY},
    }


def encoded() -> bytes:
    """The document as JSON."""
    return msgspec.json.encode(document())
