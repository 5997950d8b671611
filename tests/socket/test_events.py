"""The events of /ws/inference, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from blueprints.socket.limits import MOST_ANSWERS
from core.errors import NodesFailed, RateLimited, ShuttingDown, Unauthenticated
from tests.socket.answers import END
from tests.socket.conftest import Client, Door

ASKED = {"model": "a/model", "prompt": "Hi", "max_tokens": 10}
USAGE_SENT = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
COMPLETE = {"status": "done", "id": END.id, "model": "a/model", "finish_reason": "stop", "usage": USAGE_SENT}


class TestAnswers:
    @pytest.mark.asyncio
    async def test_a_stream_is_chunks_in_order_and_one_end(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED)
        answer = await door.answers.next()
        await answer.say("안녕")
        await answer.say(", ", "world")
        await answer.end()
        assert await client.told(4) == [
            ("inference_chunk", {"data": "안녕", "seq": 1}),
            ("inference_chunk", {"data": ", ", "seq": 2}),
            ("inference_chunk", {"data": "world", "seq": 3}),
            ("inference_complete", COMPLETE),
        ]

    @pytest.mark.asyncio
    @pytest.mark.parametrize(
        ("asked", "choice"),
        [
            ({"prompt": "Hi"}, {"text": "Hello"}),
            ({"messages": [{"role": "user", "content": "Hi"}]}, {"message": {"role": "assistant", "content": "Hello"}}),
        ],
    )
    async def test_a_whole_answer_is_rests(
        self, door: Door, client: Client, asked: dict[str, Any], choice: dict[str, Any]
    ) -> None:
        await client.emit("inference", {"model": "a/model", "max_tokens": 5, **asked})
        answer = await door.answers.next()
        await answer.say("Hel", "lo")
        await answer.end()
        choices = [{"finish_reason": "stop", **choice}]
        expected = {"id": END.id, "model": "a/model", "choices": choices, "usage": USAGE_SENT}
        assert await client.told(1) == [("inference_response", expected)]

    @pytest.mark.asyncio
    async def test_a_clients_name_stands_in_every_event_of_its_answer(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED | {"request_id": "a"})
        await client.emit("inference", ASKED | {"request_id": "b"})
        first, second = await door.answers.next(0), await door.answers.next(1)
        await first.say("x")
        await second.end()
        await first.fail(NodesFailed())
        told = await client.told(3)
        assert [(name, data["request_id"]) for name, data in told] == [
            ("inference_chunk", "a"),
            ("inference_response", "b"),
            ("inference_error", "a"),
        ]

    @pytest.mark.asyncio
    async def test_a_failure_says_whether_trying_again_may_help(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED)
        await (await door.answers.next()).fail(ShuttingDown())
        expected = {"statusCode": 503, "message": ShuttingDown().message, "retryable": True}
        assert await client.told(1) == [("inference_error", expected)]

    @pytest.mark.asyncio
    async def test_a_used_up_quota_is_told_as_before(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED)
        details = {"used": 10, "limit": 10, "resetAt": "2026-11-22T20:31:13.343Z"}
        await (await door.answers.next()).fail(RateLimited("Rate limit exceeded", details=details))
        expected = {"statusCode": 429, "message": "Rate limit exceeded", "details": details}
        assert await client.told(1) == [("inference_error", expected)]


class TestPayloads:
    @pytest.mark.asyncio
    @pytest.mark.parametrize("argument", [None, "text", 7, [], {}, [1]])
    @pytest.mark.parametrize("event", ["inference", "inference_stream"])
    async def test_what_is_no_object_lacks_all_fields(self, client: Client, event: str, argument: Any) -> None:
        await client.emit(event, argument)
        [(name, data)] = await client.told(1)
        assert (name, data["statusCode"]) == ("inference_error", 400)
        assert data["message"][:2] == [
            "model must be shorter than or equal to 100 characters",
            "model must be a string",
        ]

    @pytest.mark.asyncio
    @pytest.mark.parametrize("request_id", ["", "a b", "ü", "x" * 65, 7, ["a"], True])
    async def test_a_name_is_a_plain_word(self, door: Door, client: Client, request_id: Any) -> None:
        await client.emit("inference_stream", ASKED | {"request_id": request_id})
        [(name, data)] = await client.told(1)
        assert (name, data["statusCode"]) == ("inference_error", 400)
        assert not door.answers.all

    @pytest.mark.asyncio
    @pytest.mark.parametrize("after_seq", [-1, 1.5, "1", None, True, 2**53, 2**64, 10**400])
    async def test_a_place_is_a_whole_number(self, client: Client, after_seq: Any) -> None:
        await client.emit("inference_resume", {"request_id": "a", "after_seq": after_seq})
        assert (await client.told(1))[0][1]["message"] == [
            "after_seq must be an integer number from 0 to 9007199254740991"
        ]

    @pytest.mark.asyncio
    async def test_a_failure_of_ours_takes_no_place_for_good(
        self, door: Door, client: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def fail(*_: Any) -> None:
            raise RuntimeError("a defect")

        with monkeypatch.context() as broken:
            broken.setattr(door.answers, "resume", fail)
            for _ in range(MOST_ANSWERS):
                await client.emit("inference_resume", {"request_id": "a"})
            await client.emit("inference_cancel", {"request_id": "b"})
            await client.told(1)

        assert (await client.call("inference_stream", ASKED))["status"] == "ok"

    @pytest.mark.asyncio
    async def test_the_name_is_no_field_of_the_request(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED | {"request_id": "a"})
        request = (await door.answers.next()).request
        assert request is not None
        assert request.prompt == "Hi"

    @pytest.mark.asyncio
    async def test_an_unknown_event_is_nothing(self, door: Door, client: Client) -> None:
        await client.emit("nonsense", {"a": 1})
        await client.emit("inference_stream", ASKED)
        await (await door.answers.next()).end()
        assert [name for name, _ in await client.told(1)] == ["inference_complete"]


class TestCancelAndResume:
    @pytest.mark.asyncio
    async def test_a_cancelled_answer_ends_with_what_it_took(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED | {"request_id": "a"})
        await (await door.answers.next()).say("x")
        await client.emit("inference_cancel", {"request_id": "a"})
        told = await client.told(2)
        assert told[1] == ("inference_complete", COMPLETE | {"status": "cancelled", "request_id": "a"})

    @pytest.mark.asyncio
    async def test_a_whole_answer_can_be_cancelled_too(self, door: Door, client: Client) -> None:
        await client.emit("inference", ASKED | {"request_id": "a"})
        await door.answers.next()
        await client.emit("inference_cancel", {"request_id": "a"})
        [(name, data)] = await client.told(1)
        assert (name, data["status"], data["usage"]) == ("inference_complete", "cancelled", USAGE_SENT)

    @pytest.mark.asyncio
    @pytest.mark.parametrize("event", ["inference_cancel", "inference_resume"])
    async def test_what_is_not_there_is_404(self, client: Client, event: str) -> None:
        await client.emit(event, {"request_id": "nope", "after_seq": 3})
        [(name, data)] = await client.told(1)
        assert (name, data["statusCode"], data["request_id"]) == ("inference_error", 404, "nope")

    @pytest.mark.asyncio
    @pytest.mark.parametrize("event", ["inference_cancel", "inference_resume"])
    async def test_a_token_that_was_signed_out_reaches_no_answer(self, door: Door, event: str) -> None:
        token = door.token
        async with Client(door.url) as client:
            await client.connect(token)
            await client.emit("inference_stream", ASKED | {"request_id": "a"})
            answer = await door.answers.next()
            await door.tokens.revoke(door.tokens.verify(token))

            told = await client.call(event, {"request_id": "a", "after_seq": 0})

            assert (told["statusCode"], told["request_id"]) == (401, "a")
            assert answer.done != "ended"
            assert door.answers.all == [answer]

    @pytest.mark.asyncio
    async def test_a_resumed_answer_goes_on_behind_the_last_chunk(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED | {"request_id": "a"})
        await door.answers.next(0)
        await client.emit("inference_resume", {"request_id": "a", "after_seq": 5})
        await (await door.answers.next(1)).say("x")
        assert await client.told(1) == [("inference_chunk", {"data": "x", "seq": 6, "request_id": "a"})]

    @pytest.mark.asyncio
    async def test_a_name_in_use_is_refused_and_the_first_answer_goes_on(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED | {"request_id": "a"})
        await client.emit("inference_stream", ASKED | {"request_id": "a"})
        assert (await client.told(1))[0][1]["statusCode"] == 409
        await (await door.answers.next()).say("x")
        assert (await client.told(2))[1] == ("inference_chunk", {"data": "x", "seq": 1, "request_id": "a"})


class TestAcknowledgements:
    @pytest.mark.asyncio
    async def test_an_event_that_was_taken_is_ok(self, client: Client) -> None:
        assert await client.call("inference_stream", ASKED) == {"status": "ok"}
        assert await client.call("inference", ASKED | {"request_id": "a"}) == {"status": "ok", "request_id": "a"}

    @pytest.mark.asyncio
    async def test_one_that_was_not_says_why(self, client: Client) -> None:
        told = await client.call("inference_cancel", {"request_id": "a"})
        assert told == {"status": "error", "statusCode": 404, "message": "Answer a not found", "request_id": "a"}


class TestTokens:
    @pytest.mark.asyncio
    @pytest.mark.parametrize("transports", [["polling"], ["websocket"], None])
    @pytest.mark.parametrize("token", ["", "nonsense", "a.b.c"])
    async def test_who_is_not_known_connects_is_told_and_let_go(
        self, door: Door, token: str, transports: list[str] | None
    ) -> None:
        async with Client(door.url) as client:
            await client.connect(token, transports)
            told = await client.told(2)
        assert told[0] == ("inference_error", {"statusCode": 401, "message": "Unauthorized"})
        assert told[1][0] == "disconnect"
        assert await door.is_empty()

    @pytest.mark.asyncio
    @pytest.mark.parametrize("auth", [None, {}, {"token": ""}, {"token": None}], ids=str)
    async def test_the_header_of_rest_is_taken_too(self, door: Door, auth: dict[str, Any] | None) -> None:
        async with Client(door.url) as client:
            headers = {"Authorization": f"Bearer {door.token}"}
            await client.sio.connect(door.url, headers=headers, auth=auth, namespaces=["/ws/inference"])
            assert await client.call("inference_stream", ASKED) == {"status": "ok"}

    @pytest.mark.asyncio
    async def test_a_token_that_expires_meanwhile_ends_the_connection_at_the_next_event(
        self, door: Door, client: Client
    ) -> None:
        door.clock.advance(3600 + 31)
        await client.emit("inference_stream", ASKED)
        told = await client.told(2)
        assert (told[0][1]["statusCode"], told[1][0]) == (401, "disconnect")
        assert not door.answers.all

    @pytest.mark.asyncio
    async def test_one_that_was_revoked_does_so_too(self, door: Door, client: Client) -> None:
        await client.emit("inference_stream", ASKED)
        await (await door.answers.next()).fail(Unauthenticated())
        told = await client.told(2)
        assert (told[0][1]["statusCode"], told[1][0]) == (401, "disconnect")
        assert await door.is_empty()

    @pytest.mark.asyncio
    async def test_a_revoked_token_resumes_nothing(self, door: Door, client: Client) -> None:
        token = door.token
        await door.tokens.revoke(door.tokens.verify(token))
        async with Client(door.url) as other:
            await other.connect(token)
            await other.emit("inference_resume", {"request_id": "a", "after_seq": 0})
            assert (await other.told(2))[0][1]["statusCode"] == 401
