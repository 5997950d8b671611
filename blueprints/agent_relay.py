"""The door for agents behind NAT: they connect by WebSocket, prove their wallet, and are asked over the socket."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sanic import Blueprint, Request, Websocket

from blueprints.socket.connection import connection_of
from core.bootstrap.web import Services
from core.errors import StoreUnavailable
from core.nodes.relay import frames
from core.nodes.relay.agents import Agents
from core.nodes.relay.connection import AgentConnection
from core.nodes.relay.handshake import FULL, NO_STORE, TIMEOUT, Handshake, Identity, Refused

AUTH_S = 10.0  # from the connection to the proof
WRITE_S = 20.0  # an agent that takes nothing for so long is as dead as one that answers no ping

bp = Blueprint("agent-relay")


@bp.websocket("/ws/agent-relay")
async def agent_relay(request: Request, socket: Websocket) -> None:
    """Until the agent leaves, is replaced by a later connection of its own, or answers no ping."""
    services: Services = request.app.ctx.services
    try:
        with services.handshake.place(request.client_ip):
            identity = await _identity(socket, services.handshake)
        connection = await _joined(socket, services.agents, identity)
    except Refused as refused:
        if refused.message is not None:
            await socket.send(frames.auth_error(refused.message))
        await socket.close(refused.code, refused.reason)
        return
    with _kept_through_drain(request):
        await _serve(socket, services.agents, connection)


@contextmanager
def _kept_through_drain(request: Request) -> Iterator[None]:
    """A stop that begins would close the connection and cancel this handler: the agent's answers are to end first."""
    connection_of(request).ctx.session = True
    handlers: set[Any] = request.app.websocket_tasks
    this = asyncio.current_task()
    handlers.discard(this)
    try:
        yield
    finally:
        handlers.add(this)  # Sanic takes it away itself


async def _identity(socket: Websocket, handshake: Handshake) -> Identity:
    try:
        async with asyncio.timeout(AUTH_S):
            while True:
                message = await socket.recv()
                if message is not None and (identity := await handshake.check(message)) is not None:
                    return identity
    except TimeoutError:
        raise Refused(*TIMEOUT) from None


async def _joined(socket: Websocket, agents: Agents, identity: Identity) -> AgentConnection:
    try:
        connection = await agents.join(identity.address, identity.model, socket.end_connection)
    except StoreUnavailable:
        raise Refused(*NO_STORE) from None
    if connection is None:
        raise Refused(*FULL)
    return connection


async def _serve(socket: Websocket, agents: Agents, connection: AgentConnection) -> None:
    writing = asyncio.create_task(_write(socket, connection))
    try:
        while True:
            connection.receive(await socket.recv())
    finally:
        writing.cancel()
        await agents.leave(connection)


async def _write(socket: Websocket, connection: AgentConnection) -> None:
    try:
        await socket.send(frames.AUTH_OK)
        while True:
            message = await connection.outbox.get()
            async with asyncio.timeout(WRITE_S):
                await socket.send(message)
    except TimeoutError:
        socket.fail_connection(1011, "It does not read")
