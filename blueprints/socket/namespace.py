"""The namespace /ws/inference: each event is parsed, makes one service call, and is answered by events."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import socketio
from sanic import Sanic

from blueprints.socket.client import Client
from blueprints.socket.events import Payload, failure, named, payload
from blueprints.socket.frames import PATH
from blueprints.socket.listeners import StreamListener, WholeListener
from blueprints.socket.session import Session
from core.auth.caller import Caller
from core.bootstrap.web import Services
from core.errors import GatewayError, ShuttingDown, Unauthenticated, UnknownAnswer
from core.inference import native_body
from core.inference.answers import Listener
from core.inference.requests import InferenceRequest

Handle = Callable[[Client, Caller, Payload], Awaitable[None]]


class InferenceNamespace(socketio.AsyncNamespace):  # type: ignore[misc] # it carries no types
    """
    The events of docs/socketio.md.

    The token is checked again for each event, since a connection may outlive it.
    """

    def __init__(self, app: Sanic) -> None:
        super().__init__(PATH)
        self._app = app
        self._clients: dict[str, Client] = {}
        self._events: dict[str, Handle] = {
            "inference": self._whole,
            "inference_stream": self._stream,
            "inference_cancel": self._cancel,
            "inference_resume": self._resume,
        }

    def busy_sessions(self) -> set[str]:
        """The sessions that wait for an answer; the others may be ended at any time."""
        return {client.session_id for client in self._clients.values() if client.is_busy}

    async def trigger_event(self, event: str, sid: str, *args: Any) -> Any:
        """The library's way in. The result is what a client's acknowledgement callback gets."""
        if event == "connect":
            return await self._connect(sid, *args)
        if event == "disconnect":
            return self._disconnect(sid, *args)
        handle, client = self._events.get(event), self._clients.get(sid)
        if handle is None or client is None:
            return self.server.not_handled
        return await self._answer(handle, client, args[0] if args else None)

    async def _connect(self, sid: str, environ: dict[str, Any], auth: Any = None) -> bool:
        """Accepts everybody, as the former service did; who is not known is told so, and let go."""
        token, services = _token(environ, auth), self._services
        if (session := self._session(sid)) is None:
            return False
        client = Client(session, token, lambda: self._later(self._hang_up, sid))
        try:
            caller = services.tokens.verify(token)
        except Unauthenticated as error:
            self._later(self._refuse, client, error)  # the library says only then that it is connected
            return True
        with suppress(GatewayError):  # each event asks again, and tells
            await services.tiers.tier_of(caller)
        if session.closed:
            return False
        self._clients[sid] = client
        self.server.eio.acquaint(session.sid)
        return True

    def _disconnect(self, sid: str, reason: str) -> None:
        if (client := self._clients.pop(sid, None)) is not None:
            client.leave(for_good=reason == self.server.reason.CLIENT_DISCONNECT)

    async def _answer(self, handle: Handle, client: Client, argument: Any) -> dict[str, Any]:
        request_id = None
        try:
            client.count_event()
            asked = payload(argument)
            request_id = asked.request_id
            await handle(client, self._services.tokens.verify(client.token), asked)
        except GatewayError as error:
            with suppress(ConnectionError):
                await client.refuse(error, request_id)
            return {"status": "error", **failure(error, request_id)}
        return {"status": "ok", **named(request_id)}

    async def _whole(self, client: Client, caller: Caller, asked: Payload) -> None:
        request = native_body.parse(asked.fields)
        self._start(client, caller, request, asked.request_id, WholeListener(client, asked.request_id, request))

    async def _stream(self, client: Client, caller: Caller, asked: Payload) -> None:
        request = native_body.parse(asked.fields)
        self._start(client, caller, request, asked.request_id, StreamListener(client, asked.request_id))

    def _start(
        self, client: Client, caller: Caller, request: InferenceRequest, name: str | None, listener: Listener
    ) -> None:
        if self._services.drain.draining:
            raise ShuttingDown
        client.expect(listener)
        try:
            client.attach(listener, self._services.answers.start(caller, request, name, listener))
        except BaseException:
            client.release(listener)
            raise

    async def _resume(self, client: Client, caller: Caller, asked: Payload) -> None:
        await self._services.tokens.ensure_live(caller)
        listener = StreamListener(client, asked.name)
        after_seq = asked.after_seq
        client.expect(listener)
        try:
            answer = await self._services.answers.resume(caller, asked.name, after_seq, listener)
        except BaseException:
            client.release(listener)
            raise
        client.attach(listener, answer)

    async def _cancel(self, client: Client, caller: Caller, asked: Payload) -> None:
        await self._services.tokens.ensure_live(caller)
        if not await self._services.answers.cancel(caller, asked.name):
            raise UnknownAnswer(asked.name)

    async def _refuse(self, client: Client, error: GatewayError) -> None:
        with suppress(ConnectionError):
            await client.refuse(error)

    async def _hang_up(self, sid: str) -> None:
        """A client that polls may come for the last words in several turns."""
        session = self._session(sid)
        await self.server.disconnect(sid, PATH)
        if session is not None:
            with suppress(ConnectionError):
                await session.drained()
            await self.server.eio.end(session.sid)

    def _session(self, sid: str) -> Session | None:
        session: Session | None = self.server.eio.sockets.get(self.server.manager.eio_sid_from_sid(sid, PATH))
        return session

    def _later(self, work: Callable[..., Awaitable[None]], *args: Any) -> None:
        """After what the library is about to send."""
        self.server.start_background_task(work, *args)

    @property
    def _services(self) -> Services:
        services: Services = self._app.ctx.services
        return services


def _token(environ: dict[str, Any], auth: Any) -> str:
    """Of `auth.token`, or of the Authorization header as in REST; empty when there is none."""
    if isinstance(auth, dict) and isinstance(token := auth.get("token"), str) and token:
        return token
    scheme, _, credentials = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
    return credentials.strip() if scheme.lower() == "bearer" else ""
