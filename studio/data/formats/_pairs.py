"""Separates the shared prompt from a chosen and a rejected answer.

A pair is given as two answers to a prompt, as two complete conversations, as two transcripts, or as
two texts with a common beginning. Independent of columns and settings.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from studio.data.conversation import Message
from studio.data.row_format import RowError, as_text

Split = tuple[list[Message], list[Message], list[Message]]

_TURN = re.compile(r"(?:\A\s*|\n\n)(Human|Assistant):")
_SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def is_transcript(value: object) -> bool:
    """Whether a text is a conversation in the form “Human: … Assistant: …”, as in HH-RLHF."""
    return (
        isinstance(value, str) and value.lstrip().startswith("Human:") and "\n\nAssistant:" in value
    )


def transcript(value: str, name: str) -> list[Message]:
    """The messages of a transcript."""
    _, *parts = _TURN.split(value)
    said = [p.strip() for p in parts[1::2]]
    return [
        {"role": _SPEAKERS[who], "content": as_text(what, f"turn {i} of column “{name}”", name)}
        for i, (who, what) in enumerate(zip(parts[::2], said, strict=True), start=1)
    ]


def split_messages(chosen: Sequence[Message], rejected: Sequence[Message]) -> Split:
    """The common messages at the beginning, and the rest of each list."""
    shared = 0
    for one, other in zip(chosen, rejected, strict=False):
        if one != other:
            break
        shared += 1
    return list(chosen[:shared]), list(chosen[shared:]), list(rejected[shared:])


def split_texts(chosen: str, rejected: str, names: tuple[str, str]) -> tuple[str, str, str]:
    """The common words at the beginning, and the rest of each text; raises ``RowError`` if there are none."""
    differs = (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b)
    shared = chosen[: next(differs, min(len(chosen), len(rejected)))]
    end = max(shared.rfind(mark) for mark in (" ", "\n", "\t")) + 1
    prompt = chosen[:end]
    if not prompt.strip():
        raise RowError(
            f"has no prompt: columns “{names[0]}” and “{names[1]}” start differently",
            "Enter the prompt column in the format settings, or add one.",
            column=names[0],
            code="no_prompt",
        )
    return prompt.rstrip(), chosen[end:], rejected[end:]
