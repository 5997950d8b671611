"""The schemas of the API document, made from the typed shapes (JSON Schema 2020-12, the dialect of OpenAPI 3.1)."""

from __future__ import annotations

from typing import Any

import msgspec

from blueprints import api_payment_shapes as payment
from blueprints import api_shapes as plain
from blueprints import shapes
from core.inference.completion import Usage
from core.inference.openai_body import ChatBody, CompletionBody

Schema = dict[str, Any]
REF = "#/components/schemas/{name}"

REQUESTS: tuple[type[msgspec.Struct], ...] = (
    plain.NonceRequest,
    plain.VerifyRequest,
    plain.NativeRequest,
    payment.DepositRequest,
    plain.AgentReportRequest,
    ChatBody,
    CompletionBody,
)
# All of them, nested ones too: an answer has every field of its shape.
ANSWERS: tuple[type[msgspec.Struct], ...] = (
    plain.Health,
    plain.Readiness,
    plain.SignInChallenge,
    plain.Token,
    plain.Window,
    plain.Account,
    payment.PaymentBalance,
    payment.Transaction,
    payment.Deposit,
    payment.Settlement,
    payment.Unsettled,
    payment.History,
    payment.ReceiptField,
    payment.ReceiptTypes,
    payment.ReceiptDomain,
    payment.Receipt,
    payment.ReceiptData,
    payment.SignedReceipt,
    payment.CreditDetails,
    plain.Done,
    plain.AgentReportList,
    plain.SignedOut,
    plain.NativeModel,
    plain.NativeModelList,
    plain.NodeInfo,
    plain.NodeDetail,
    plain.NodeList,
    plain.Served,
    plain.NodeFound,
    plain.NodeNotFound,
    plain.QuotaDetails,
    plain.NativeError,
    plain.OpenAIModel,
    plain.OpenAIModelList,
    plain.OpenAIProblem,
    plain.OpenAIError,
    Usage,
    shapes.Turn,
    shapes.NativeChoice,
    shapes.NativeCompletion,
    shapes.NativeEnd,
    shapes.ChatChoice,
    shapes.ChatCompletion,
    shapes.TextChoice,
    shapes.TextCompletion,
)
# What a field means wherever it stands, unless its shape says so itself.
GLOSSARY = {
    "balance_plm": "An exact decimal.",
    "choices": "Always one.",
    "completion_tokens": "Tokens of the answer.",
    "cost_plm": "An exact decimal.",
    "created": "Unix time in seconds.",
    "finish_reason": "`stop` at the answer's own end, `length` when `max_tokens` cut it off.",
    "include_usage": "Sends the token counts in a chunk of their own before `[DONE]`.",
    "max_completion_tokens": "The newer name of `max_tokens`; it wins when both are given.",
    "max_tokens": "The most tokens that the answer may have. The tier and the model limit it further.",
    "model": "A model's id, exactly as the catalogue lists it.",
    "n": "Only 1: an answer has one choice.",
    "prompt_tokens": "Tokens of the prompt.",
    "stop": "Texts at which the answer ends; they are not part of it.",
    "stream": "Whether to answer as server-sent events.",
    "temperature": "How freely the model chooses; 0.7 when it is not given.",
    "top_p": "The share of likely tokens that the model chooses from; 0.9 when it is not given.",
}


def ref(shape: type[msgspec.Struct]) -> Schema:
    """A reference to a shape's schema."""
    return {"$ref": REF.format(name=shape.__name__)}


def schemas() -> dict[str, Schema]:
    """Every schema by its name."""
    _, asked = msgspec.json.schema_components(REQUESTS, ref_template=REF)
    _, answered = msgspec.json.schema_components(ANSWERS, ref_template=REF)
    _narrow(asked)
    for name in ("NativeError", "OpenAIProblem"):  # msgspec has no words for either of two shapes without a tag
        answered[name]["properties"]["details"] = {"anyOf": [ref(plain.QuotaDetails), ref(payment.CreditDetails)]}
    for shape in ANSWERS:
        if not shape.__struct_config__.omit_defaults:
            schema = answered[shape.__name__]
            schema["required"] = list(schema["properties"])
    every: dict[str, Schema] = asked | answered
    for schema in every.values():
        _explain(schema.get("properties", {}))
    return every


def _narrow(asked: dict[str, Schema]) -> None:
    """What the parsers check besides the types of fields."""
    asked["NativeRequest"]["anyOf"] = [_has("prompt", "string", minLength=1), _has("messages", "array")]
    for name in ("ChatBody", "CompletionBody"):
        asked[name]["properties"]["n"] = {"enum": [1, None], "default": None}
    text, texts = asked["CompletionBody"]["properties"]["prompt"]["anyOf"]
    text["minLength"] = texts["items"]["minLength"] = 1
    part = asked["ContentPart"]
    part["required"] = ["type", "text"]
    part["properties"] = {"type": {"const": "text"}, "text": part["properties"]["text"]["anyOf"][0]}


def _has(field: str, kind: str, **bounds: int) -> Schema:
    return {"required": [field], "properties": {field: {"type": kind, **bounds}}}


def _explain(properties: dict[str, Schema]) -> None:
    for name, schema in properties.items():
        if name in GLOSSARY:
            schema.setdefault("description", GLOSSARY[name])
