"""Session ids of Engine.IO that name their owner: the worker whose memory the session lives in."""

from __future__ import annotations

import re
import secrets

from core.worker_id import LENGTH

RANDOM_BYTES = 15
# The owner becomes a file name and a topic, so an id that a client made up may hold nothing but plain characters.
SESSION_ID = re.compile(rf"([A-Za-z0-9]{{{LENGTH}}})[A-Za-z0-9_-]{{1,64}}")


def new_session_id(worker_id: str) -> str:
    """The owner's id and 120 random bits; clients take it as it is."""
    return worker_id + secrets.token_urlsafe(RANDOM_BYTES)


def owner_of(session_id: str) -> str | None:
    """The worker that made the id; None when no worker can have made it."""
    found = SESSION_ID.fullmatch(session_id)
    return found and found[1]
