"""The names that roles and keys of messages have in data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "customer": "user",
    "client": "user",
    "visitor": "user",
    "end_user": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "ai": "assistant",
    "ai_assistant": "assistant",
    "agent": "assistant",
    "support_agent": "assistant",
    "support": "assistant",
    "tool": "tool",
    "environment": "tool",
    "tool_output": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "tool_result": "tool",
}
"""Names of roles in data -> the four roles of chat templates."""

CALLERS = ("function_call", "tool_call", "tool_calls")
"""Roles of a turn that contains only a tool call, as JSON."""

THOUGHTS = (
    *("reasoning_content", "thinking", "reasoning", "thought", "thoughts", "reasoning_text"),
    *("chain_of_thought", "cot", "rationale", "reasoning_details", "thinking_blocks"),
)
"""Keys of a message with what the assistant thinks before it answers; templates read the first."""

THINKERS = ("reasoning", "thinking", "thought", "thoughts", "analysis")
"""Roles of a turn that contains only the thought before the next answer."""

TEXT_OF_THOUGHT = ("thinking", "reasoning", "text", "content", "summary")
"""Keys of a part of a message that is a thought, with its text."""


@dataclass(frozen=True)
class Keys:
    """The possible names of a message's role and content keys, the most likely first."""

    role: tuple[str, ...] = ("role", "from", "speaker", "sender")
    content: tuple[str, ...] = ("content", "value", "text", "parts")

    def chosen(self, role: str, content: str) -> Keys:
        """These keys where a format's settings have their first names, else the names of the settings."""
        if role == self.role[0] and content == self.content[0]:
            return self
        return Keys(
            self.role if role == self.role[0] else (role,),
            self.content if content == self.content[0] else (content,),
        )


USUAL = Keys()


def role_name(given: Any) -> str:
    """A role as ``ROLES`` writes it: in lower case, with underscores; empty if it is not text."""
    if not isinstance(given, str):
        return ""
    return "_".join(given.lower().replace("-", " ").replace("_", " ").split())
