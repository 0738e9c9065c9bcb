"""A regular expression for whole names of layers, as PEFT asks it (``re.fullmatch``), that always ends.

Why apart: it is tried on every layer after each key, in the window's own process, and Python's matcher
cannot be interrupted. Expressions that can take longer than anybody waits are refused, with a sentence.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from re import _constants, _parser  # type: ignore[attr-defined]  # the tree that re compiles
from typing import Any

from studio.model.layer_names import joined_name

PATTERN = "re:"
"""What a regular expression begins with in a setting."""

_MANY = 8  # repeats; fewer cost nothing
_MOST_REPEATS = 6
_LONGEST_S = 1.0
_REPEATS = (_constants.MAX_REPEAT, _constants.MIN_REPEAT)


class PatternTrouble(ValueError):
    """What is wrong with an expression: a sentence for the user."""


def matched_names(setting: str, names: Iterable[str]) -> list[str]:
    """The names that an expression means, an expert's also by the weight it is joined in. Raises
    ``PatternTrouble`` when it is none, or takes too long."""
    pattern = _compiled(setting.removeprefix(PATTERN))
    slow = PatternTrouble(f"“{setting}” takes too long on the names of this model.")
    until = time.monotonic() + _LONGEST_S
    found = []
    for name in names:
        if pattern.fullmatch(name) or pattern.fullmatch(joined_name(name)):
            found.append(name)
        if time.monotonic() > until:
            raise slow
    return found


def _compiled(text: str) -> re.Pattern[str]:
    try:
        pattern, repeats = re.compile(text), _repeats(_parser.parse(text), False)
    except (re.error, OverflowError, RecursionError) as error:
        why = "it is too deep" if isinstance(error, RecursionError) else str(error)
        raise PatternTrouble(f"“{PATTERN}{text}” is not a regular expression: {why}.") from None
    if repeats > _MOST_REPEATS:
        raise PatternTrouble(
            f"“{PATTERN}{text}” could take for ever: it repeats what repeats itself, or repeats more than "
            f"{_MOST_REPEATS} parts."
        )
    return pattern


def _repeats(tree: Any, inside: bool) -> int:
    """How many parts are repeated often; one within another counts as too many."""
    found = 0
    for kind, value in tree:
        if kind in _REPEATS:
            often = value[1] > _MANY
            found += (1 + inside * _MOST_REPEATS) * often + _repeats(value[2], inside or often)
        elif kind == _constants.BRANCH:
            found += sum(_repeats(part, inside) for part in value[1])
        elif kind == _constants.SUBPATTERN:
            found += _repeats(value[-1], inside)
        elif kind in (_constants.ASSERT, _constants.ASSERT_NOT):
            found += _repeats(value[1], inside)
    return found
