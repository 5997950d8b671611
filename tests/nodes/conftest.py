"""Fixtures of the node tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio
import uvloop

from core.store import Store
from tests.nodes.network import Network


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Everything here runs on both event loops: the servers use uvloop, tools may not."""
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def network(store: Store) -> AsyncIterator[Network]:
    """Nodes and a router, gone afterwards without a trace."""
    opened = Network(store)
    yield opened
    await opened.close()
