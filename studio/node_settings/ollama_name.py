"""Which names ``ollama create`` accepts (``types/model/name.go`` of Ollama)."""

from __future__ import annotations

import re

LONGEST_PART = 80
"""Characters of the name of a model, of its namespace and of its tag."""
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")


def name_fault(name: str) -> str:
    """What is wrong with the name of a model for ``ollama create``, as the end of a sentence; empty if nothing is."""
    path, colon, tag = name.partition(":")
    if colon and not _fits(tag, _PART):
        return "its tag (after the colon) may only contain letters, digits, _, - and ."
    *spaces, model = path.split("/")
    if len(spaces) > 1:
        return "it may contain one slash at most"
    if not all(_fits(s, _NAMESPACE) for s in spaces) or not _fits(model, _PART):
        return (
            "it may only contain letters, digits, _, - and . (up to 80), must start with a letter, a digit or _, and "
            "may have a namespace before it and a tag after it (namespace/model:tag)"
        )
    return ""


def _fits(part: str, pattern: re.Pattern[str]) -> bool:
    return bool(pattern.fullmatch(part)) and len(part) <= LONGEST_PART
