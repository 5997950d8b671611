"""The name of one web worker's process: what a connection, an answer or an agent's socket is found by."""

from __future__ import annotations

import secrets
import string

LENGTH = 8
LETTERS = string.ascii_letters + string.digits  # harmless in URLs, file names and topics


def new_worker_id() -> str:
    """A new one; a restarted worker has another, so that nothing is taken for the dead one's."""
    return "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
