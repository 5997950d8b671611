"""
What can go wrong with a node. None of it reaches a client: the router turns it into another attempt.

    NodeFailure
    ├── NodeUnreachable     no connection: refused, timed out, TLS
    ├── NodeSilent          connected, but no (further) answer in time
    └── NodeFailed          an answer that can't be used: 5xx, a wrong secret, an error event, an empty answer
        └── NodeBroken      cut off, malformed, or larger than an honest answer can be
            └── NodeHungUp  closed without a single byte
"""

from __future__ import annotations


class NodeFailure(Exception):
    """The node's fault. The text is for the log: a few words, nothing that the node wrote."""

    may_repeat = False  # whether the same node is worth another attempt when there is no other one


class NodeUnreachable(NodeFailure):
    """Nothing was sent."""


class NodeSilent(NodeFailure):
    """Too slow. It may still be working on it, and a second attempt would queue up behind the first."""


class NodeFailed(NodeFailure):
    """It answered, and not with an answer."""

    may_repeat = True


class NodeBroken(NodeFailed):
    """The bytes that came break the protocol or its limits."""


class NodeHungUp(NodeBroken):
    """On a connection that was used before: the node had closed it while the request was under way."""
