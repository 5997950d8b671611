"""Fixtures of the accounts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.billing.accounts import Accounts


@pytest.fixture
def accounts(redis_url: str) -> Iterator[Accounts]:
    """Empty accounts."""
    opened = Accounts(redis_url)
    yield opened
    opened.redis.close()
