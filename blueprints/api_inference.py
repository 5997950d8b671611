"""The API document's part on the inference doors of /api/v1."""

from __future__ import annotations

import msgspec

from blueprints import api_shapes as plain
from blueprints import shapes
from blueprints.api_answers import QUOTA_HEADERS, REPEATABLE_HEADERS, answer, body, events, native_errors
from blueprints.api_operation import (
    IDEMPOTENCY_KEY,
    MESSAGES,
    MODEL,
    PROMPT,
    REPEATABLE,
    REQUEST_ID,
    SERVED,
    TEXT,
    WALLET,
    Operation,
    in_query,
)
from core.inference.completion import Usage
from core.inference.native_body import MAX_TOKENS
from core.inference.requests import MAX_MODEL_NAME, MAX_TEXT

STREAM = (
    "Each piece of text is an event; a line break in it begins another `data:` line. The last event is `complete`,"
    " whose data is a `NativeEnd`, or `error`, whose data is a message. Comment lines keep the connection alive."
)
BY_QUERY = (
    " A long prompt does not fit into a URL: use POST. A client that sends a body with GET may put all fields there."
)
EVENTS = events(
    "\nid: 1\ndata: A chain\n\nid: 2\ndata:  of blocks.\n\nevent: complete\nid: 3\n"
    'data: {"id":"' + REQUEST_ID + '","model":"' + MODEL + '","finish_reason":"stop",'
    '"usage":{"prompt_tokens":4,"completion_tokens":5,"total_tokens":9}}\n\n'
)
QUERY = (
    in_query("model", {"type": "string", "maxLength": MAX_MODEL_NAME}, MODEL, required=True),
    in_query("prompt", {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}, PROMPT, required=True),
    in_query("max_tokens", {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS}, 64, required=True),
    in_query("temperature", {"type": "number", "minimum": 0, "maximum": 2, "default": 0.7}, 0.7),
    in_query("top_p", {"type": "number", "minimum": 0, "maximum": 1, "default": 0.9}, 0.9),
)
BODY = body(
    plain.NativeRequest,
    chat={"model": MODEL, "messages": MESSAGES, "max_tokens": 256, "temperature": 0.7},
    prompt={"model": MODEL, "prompt": PROMPT, "max_tokens": 256},
)
ANSWER = shapes.NativeCompletion(
    REQUEST_ID, MODEL, [shapes.NativeChoice("stop", message=shapes.Turn(TEXT))], Usage(12, 6, 18)
)
WHOLE = {
    201: answer(
        "The whole answer.", body(shapes.NativeCompletion, chat=msgspec.to_builtins(ANSWER)), REPEATABLE_HEADERS
    ),
    **native_errors(*REPEATABLE),
}

INFERENCE = (
    Operation(
        route="post /api/v1/inference",
        id="infer",
        summary="Answer a prompt or a conversation",
        description="A prompt is answered by `text`, messages by `message`; a request with both gets both.",
        security=WALLET,
        parameters=(IDEMPOTENCY_KEY,),
        body=BODY,
        answers=WHOLE,
    ),
    Operation(
        route="post /api/v1/inference/chat",
        id="inferChat",
        summary="The same under its second name",
        security=WALLET,
        parameters=(IDEMPOTENCY_KEY,),
        body=BODY,
        answers=WHOLE,
    ),
    Operation(
        route="get /api/v1/inference/stream",
        id="streamByQuery",
        summary="Stream an answer, asked by query parameters",
        description=STREAM + BY_QUERY,
        security=WALLET,
        parameters=QUERY,
        answers={200: answer("The events.", EVENTS, QUOTA_HEADERS), **native_errors(*SERVED)},
    ),
    Operation(
        route="post /api/v1/inference/stream",
        id="streamByBody",
        summary="Stream an answer, asked by a body",
        description=STREAM,
        security=WALLET,
        parameters=(IDEMPOTENCY_KEY,),
        body=BODY,
        answers={201: answer("The events.", EVENTS, REPEATABLE_HEADERS), **native_errors(*REPEATABLE)},
    ),
)
