"""The choices of a question and the correct one, from the notations that occur in data.

Choices are given as a list, as ``{"text": [...], "label": [...]}`` or as ``{"A": ...}``, and the
answer as an index, a letter or the text.
"""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.data.row_format import RowError, as_text, kind_of, listed

LETTERS = string.ascii_uppercase


@dataclass(frozen=True)
class Choices:
    """The texts in order, and their labels in the data (A, B, … by default)."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


CHOICE_KEYS = frozenset(("text", "label", "labels"))


def names_texts(value: Any) -> bool:
    """Whether choices are given as ``{"text": [...], "label": [...]}``."""
    return isinstance(value, Mapping) and isinstance(value.get("text"), (list, tuple))


def choices_in(value: Any, name: str) -> Choices:
    """The choices in column ``name``; raises ``RowError`` for anything else."""
    if isinstance(value, str):
        value = _from_text(value)
    if names_texts(value):
        texts, labels = list(value["text"]), list(value.get("label") or value.get("labels") or [])
    elif isinstance(value, Mapping):
        texts, labels = list(value.values()), list(value)
    else:
        texts, labels = listed(value) or [], []
    if not 2 <= len(texts) <= len(LETTERS) or (labels and len(labels) != len(texts)):
        raise RowError(
            f"has no list of 2 to {len(LETTERS)} choices in column “{name}”, but "
            + (_counts(texts, labels) if texts else kind_of(value)),
            "Write the choices as a list of texts, or remove the row.",
            column=name,
            code="bad_choices",
        )
    said = tuple(as_text(t, f"choice {i} of column “{name}”", name) for i, t in enumerate(texts, 1))
    return Choices(said, tuple(str(m).strip() for m in labels) or tuple(LETTERS[: len(said)]))


def _counts(texts: Sequence[Any], labels: Sequence[Any]) -> str:
    return f"{len(texts)} choices" + (f" with {len(labels)} labels" if labels else "")


def _from_text(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def right_choice(answer: Any, choices: Choices, first: int, name: str) -> int:
    """The index (from 0) of the correct choice.

    The answer is a label or letter, a choice's text, or a number, with ``first`` as the number of
    the first choice.
    """
    count = len(choices.texts)
    said = answer.strip() if isinstance(answer, str) else answer
    if isinstance(said, float) and said.is_integer():
        said = int(said)
    if isinstance(said, bool) or not isinstance(said, (str, int)) or said == "":
        raise RowError(
            f"has {'nothing' if said in (None, '') else kind_of(said)} in column “{name}” instead of the "
            "correct choice",
            "Enter its number, its letter or its text.",
            column=name,
            code="bad_answer",
        )
    if isinstance(said, str):
        found = _by_text(said, choices)
        if found is not None:
            return found
        if not said.lstrip("-").isdecimal():
            raise RowError(
                f"has the answer “{said[:80]}” in column “{name}”, which is not one of its {count} choices",
                f"Use a letter from A to {LETTERS[count - 1]}, or the text of a choice.",
                column=name,
                code="bad_answer",
            )
    index = int(said) - first
    if not 0 <= index < count:
        raise RowError(
            f"has the choice {said} in column “{name}”, but its {count} choices are numbered from "
            f"{first} to {first + count - 1}",
            "Correct the number, or set “Number of the first choice” to the number at "
            "which the file starts.",
            column=name,
            code="bad_answer",
        )
    return index


def _by_text(said: str, choices: Choices) -> int | None:
    """The choice with this label, letter or text."""
    bare = said.rstrip(".):").lstrip("(")
    for wanted, there in ((bare, choices.labels), (said, choices.texts)):
        if wanted in there:
            return there.index(wanted)
    if bare.upper() in LETTERS[: len(choices.texts)] and len(bare) == 1:
        return LETTERS.index(bare.upper())
    return None
