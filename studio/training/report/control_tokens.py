"""Control tokens inside the text of a row: special tokens of the tokenizer that somebody wrote as text.

The tokenizer does not distinguish them from those that the chat template writes: the model would
see a turn end, or begin, in the middle of a text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from studio.training.tokens.ends import end_of, special_texts

_MARK = re.compile(r"<[^<>\s]{1,100}>|\[[^\[\]\s]{1,100}\]")
_MEANT = re.compile(r"</?\w*(think|thought|tool|answer|reason)\w*>", re.IGNORECASE)
"""Marks of thoughts and tools: part of what an answer says."""


def control_token_in(tokenizer: Any, row: Mapping[str, Any]) -> str:
    """The first control token in a stored row, or nothing; an end token that ends an answer does not
    count."""
    special, others = _control(special_texts(tokenizer))
    for text, may_end in _texts(row):
        end = end_of(tokenizer, text) if may_end else ""
        if end:
            text = text.rstrip().removesuffix(end)
        found = next((m for m in _MARK.findall(text) if m in special), "")
        found = found or next((t for t in others if t in text), "")
        if found:
            return found
    return ""


@lru_cache(maxsize=8)
def _control(special: tuple[str, ...]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The control tokens, and those of them that do not look like a mark."""
    control = frozenset(t for t in special if not _MEANT.fullmatch(t))
    return control, tuple(t for t in control if not _MARK.fullmatch(t))


def _texts(row: Mapping[str, Any]) -> Iterator[tuple[str, bool]]:
    """The texts of a row, and whether each may end with an end token."""
    for name in ("prompt", "completion", "text"):
        if row.get(name):
            yield str(row[name]), name != "prompt"
    for message in row.get("messages") or ():
        if message.get("content"):
            yield str(message["content"]), message["role"] == "assistant"
