"""What a paid answer cost, told at every door; and that a free one says nothing of it."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from msgspec.structs import replace as changed

from blueprints import shapes
from blueprints.frames import NativeFrames, OpenAIFrames
from blueprints.socket import events
from core.access.grant import Grant
from core.auth.caller import Caller
from core.catalog import Model, Tier
from core.inference.answers import AnswerEnd
from core.inference.answers.messages import Ended, decode, encode
from core.inference.completion import Completion, Paid, Usage
from core.inference.requests import InferenceRequest
from core.inference.streaming import CompletionStream

MODEL = Model(id="a/b", name="", description="", tier=Tier.FREE, max_tokens=10, context_length=10)
GRANT = Grant("req_1_ab", Caller("0x" + "1" * 40), Tier.PRO, MODEL, 10, None)
FREE = Completion(GRANT, 1_800_000_000, "text", "stop", Usage(3, 2, 5))
PAID = changed(FREE, paid=Paid(cost=5 * 10**12, left=150 * 10**18 - 1))
TOKENS = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
PRICED = TOKENS | {"cost_plm": "0.000005", "balance_plm": "149.999999999999999999"}


def native_stream(completion: Completion) -> Any:
    """The usage in the native stream's last event."""
    return json.loads(NativeFrames().end(completion).split(b"data: ")[1])["usage"]


def openai_stream(completion: Completion) -> Any:
    """The usage in the last chunk before [DONE]."""
    stream = cast("CompletionStream", SimpleNamespace(grant=GRANT, created=1))
    frames = OpenAIFrames(stream, chat=True, include_usage=True)
    return json.loads(frames.end(completion).split(b"data: ")[2])["usage"]


def native_whole(completion: Completion) -> Any:
    """The usage of the former service's shape."""
    return json.loads(msgspec.json.encode(shapes.native(completion, with_text=True, with_message=False)))["usage"]


def openai_chat(completion: Completion) -> Any:
    """The usage of OpenAI's chat."""
    return json.loads(msgspec.json.encode(shapes.chat(completion)))["usage"]


def openai_text(completion: Completion) -> Any:
    """The usage of OpenAI's text completion."""
    return json.loads(msgspec.json.encode(shapes.text(completion)))["usage"]


def ended(completion: Completion) -> AnswerEnd:
    """The answer's end as another worker hears of it."""
    end = AnswerEnd("req_1_ab", "a/b", "stop", completion.told_usage)
    heard = decode(encode(Ended(b"link", "worker", 1, end)))
    assert isinstance(heard, Ended)
    return heard.end


def socket_stream(completion: Completion) -> Any:
    """The usage of `inference_complete`."""
    return msgspec.to_builtins(events.complete(ended(completion), None))["usage"]


def socket_whole(completion: Completion) -> Any:
    """The usage of `inference_response`."""
    asked = InferenceRequest(model="a/b", prompt="p")
    return events.response(ended(completion), "text", asked, None)["usage"]


DOORS = [native_whole, native_stream, openai_chat, openai_text, openai_stream, socket_stream, socket_whole]


@pytest.mark.parametrize("door", DOORS)
class TestEveryDoor:
    def test_tells_the_price_and_what_is_left(self, door: Any) -> None:
        assert door(PAID) == PRICED

    def test_says_nothing_of_money_when_it_was_free(self, door: Any) -> None:
        assert door(FREE) == TOKENS
