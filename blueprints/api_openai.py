"""The API document's part on the OpenAI doors."""

from __future__ import annotations

import msgspec

from blueprints import api_shapes as plain
from blueprints import shapes
from blueprints.api_answers import REPEATABLE_HEADERS, Part, answer, body, events, openai_errors
from blueprints.api_operation import (
    CREATED,
    IDEMPOTENCY_KEY,
    MESSAGES,
    MODEL,
    MODEL_ID,
    PROMPT,
    REPEATABLE,
    REQUEST_ID,
    TEXT,
    WALLET_OR_OPERATOR,
    Operation,
)
from core.inference.completion import Usage
from core.inference.openai_body import ChatBody, CompletionBody

STREAM = (
    "With `stream` the answer is a stream of OpenAI's chunks. It ends with `[DONE]`, or with an error object when it"
    " broke off. Fields of OpenAI's API that are not listed here are ignored."
)
CHUNK = (
    'data: {"id":"%s","object":"%s","created":1780000000,"model":"' + MODEL + '","choices":[%s]}\n\ndata: [DONE]\n\n'
)
CHAT_CHUNK = '{"index":0,"delta":{"content":"A chain"},"logprobs":null,"finish_reason":null}'
TEXT_CHUNK = '{"index":0,"text":" a chain","logprobs":null,"finish_reason":null}'
CHAT_ID, TEXT_ID = f"chatcmpl-{REQUEST_ID}", f"cmpl-{REQUEST_ID}"
CHAT = shapes.ChatCompletion(CHAT_ID, CREATED, MODEL, [shapes.ChatChoice(shapes.Turn(TEXT), "stop")], Usage(12, 6, 18))
COMPLETION = shapes.TextCompletion(TEXT_ID, CREATED, MODEL, [shapes.TextChoice(" a chain", "length")], Usage(4, 2, 6))


def _answers(whole: msgspec.Struct, streamed: str) -> dict[int, Part]:
    content = body(type(whole), whole=msgspec.to_builtins(whole)) | events(streamed)
    return {200: answer("The answer.", content, REPEATABLE_HEADERS), **openai_errors(*REPEATABLE, 403, 404)}


OPENAI = (
    Operation(
        route="post /v1/chat/completions",
        id="createChatCompletion",
        summary="Chat",
        description=STREAM,
        security=WALLET_OR_OPERATOR,
        parameters=(IDEMPOTENCY_KEY,),
        body=body(
            ChatBody,
            whole={"model": MODEL, "messages": MESSAGES, "max_tokens": 256},
            streamed={"model": MODEL, "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}},
        ),
        answers=_answers(CHAT, CHUNK % (CHAT_ID, "chat.completion.chunk", CHAT_CHUNK)),
    ),
    Operation(
        route="post /v1/completions",
        id="createCompletion",
        summary="Complete a text",
        description=STREAM,
        security=WALLET_OR_OPERATOR,
        parameters=(IDEMPOTENCY_KEY,),
        body=body(
            CompletionBody,
            whole={"model": MODEL, "prompt": PROMPT, "max_tokens": 64},
            streamed={"model": MODEL, "prompt": PROMPT, "stream": True},
        ),
        answers=_answers(COMPLETION, CHUNK % (TEXT_ID, "text_completion", TEXT_CHUNK)),
    ),
    Operation(
        route="get /v1/models",
        id="listOpenAIModels",
        summary="List the models",
        security=WALLET_OR_OPERATOR,
        answers={200: answer("The catalogue.", body(plain.OpenAIModelList)), **openai_errors(401, 503)},
    ),
    Operation(
        route="get /v1/models/{model_id}",
        id="getOpenAIModel",
        summary="One model",
        security=WALLET_OR_OPERATOR,
        parameters=(MODEL_ID,),
        answers={200: answer("The model.", body(plain.OpenAIModel)), **openai_errors(400, 401, 404, 413, 503)},
    ),
)
