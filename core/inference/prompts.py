"""
Chats for nodes that take one text (`inputs`): one template, which the text of a user can't break out of.

    ### SYSTEM:
    You help.

    ### USER:
    What is AI?

    ### ASSISTANT:

A line of a message that itself looks like a role's heading gets a backslash before it, so that the model sees it as
text. The model's own answer ends where it begins a next heading (ROLE_STOPS).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from core.inference.requests import Message

ROLE_STOPS = ("\n### USER:", "\n### SYSTEM:", "\n### ASSISTANT:")
# Every character at which str.splitlines() breaks begins a line for some tokenizer or reader.
_BREAK = r"\n\r\v\f\x1c-\x1e\x85\u2028\u2029"
# A run of blanks is looked at once, from its start, and never given back: hostile text takes linear time.
_LINE_START = rf"(\A\s*+|(?<!\s)[^\S{_BREAK}]*+[{_BREAK}]\s*+)"
_HEADING = re.compile(_LINE_START + r"(?=#++\s*+(?:system|user|assistant)\s*+:)", re.IGNORECASE)


def chat_prompt(messages: Sequence[Message]) -> str:
    """The template filled with a chat; it ends where the assistant is to speak."""
    blocks = [f"### {message.role.upper()}:\n{escaped(message.content)}\n" for message in messages]
    return "\n".join([*blocks, "### ASSISTANT:\n"])


def escaped(content: str) -> str:
    """The text with every would-be heading marked as text."""
    return _HEADING.sub(r"\1\\", content)
