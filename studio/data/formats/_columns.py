"""Common column names that several formats accept.

Each list starts with the most usual name.
"""

from __future__ import annotations

CONVERSATION = ("conversations", "conversation", "messages", "dialog", "chat")
PROMPT = ("prompt", "question", "instruction", "query", "input")
SYSTEM = ("system", "system_prompt")


def other_names(names: tuple[str, ...], usual: str) -> tuple[str, ...]:
    """The names without the ``usual`` one, which is the default of the format's setting."""
    return tuple(name for name in names if name != usual)
