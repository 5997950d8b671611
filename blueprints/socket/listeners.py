"""What an answer looks like to a socket: chunk by chunk, or whole."""

from __future__ import annotations

from collections.abc import Sequence

from blueprints.socket.client import Client
from blueprints.socket.events import complete, response
from blueprints.socket.frames import ChunkEvents
from core.errors import GatewayError
from core.inference.answers import AnswerEnd
from core.inference.requests import InferenceRequest


class StreamListener:
    """`inference_stream` and `inference_resume`: chunks, then their end."""

    __slots__ = ("_chunks", "_client", "_request_id")

    def __init__(self, client: Client, request_id: str | None) -> None:
        self._client = client
        self._request_id = request_id
        self._chunks = ChunkEvents(request_id)

    def offer(self, first_seq: int, pieces: Sequence[str]) -> bool:
        return self._client.offer(self._chunks(first_seq, pieces))

    async def pieces(self, first_seq: int, pieces: Sequence[str]) -> None:
        await self._client.deliver(self._chunks(first_seq, pieces))

    async def end(self, seq: int, end: AnswerEnd) -> None:
        self._client.release(self)
        await self._client.send("inference_complete", complete(end, self._request_id))

    async def error(self, seq: int, error: GatewayError) -> None:
        self._client.release(self)
        await self._client.refuse(error, self._request_id)


class WholeListener:
    """`inference`: one response with all of the text."""

    def __init__(self, client: Client, request_id: str | None, request: InferenceRequest) -> None:
        self._client = client
        self._request_id = request_id
        self._request = request
        self._pieces: list[str] = []

    def offer(self, first_seq: int, pieces: Sequence[str]) -> bool:
        self._pieces += pieces
        return True

    async def pieces(self, first_seq: int, pieces: Sequence[str]) -> None:
        self._pieces += pieces

    async def end(self, seq: int, end: AnswerEnd) -> None:
        self._client.release(self)
        if end.cancelled:
            await self._client.send("inference_complete", complete(end, self._request_id))
        else:
            text = "".join(self._pieces)
            await self._client.send("inference_response", response(end, text, self._request, self._request_id))

    async def error(self, seq: int, error: GatewayError) -> None:
        self._client.release(self)
        await self._client.refuse(error, self._request_id)
