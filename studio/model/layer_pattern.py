"""Regular expressions for full names of layers, matched as in PEFT (``re.fullmatch``).

The window matches an expression against every layer after each key, so matching has a time limit,
which ``regex`` supports and Python's ``re`` does not.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from studio.model.layer_names import joined_name

if TYPE_CHECKING:
    import regex

PATTERN = "re:"
"""The prefix of a regular expression in a setting."""

_LIMIT_S = 1.0


class PatternError(ValueError):
    """The error of an expression, as a sentence for the user."""


def matched_names(setting: str, names: Iterable[str]) -> list[str]:
    """The names that an expression matches; an expert also matches by the weight it is joined in.

    Raises ``PatternError`` when the expression is invalid or takes too long.
    """
    pattern = _compiled(setting.removeprefix(PATTERN))
    until = time.monotonic() + _LIMIT_S
    try:
        return [n for n in names if any(_matches(pattern, m, until) for m in {n, joined_name(n)})]
    except TimeoutError:
        raise PatternError(
            f"matching “{setting}” with the module names of this model takes too long."
        ) from None


def _matches(pattern: regex.Pattern[str], name: str, until: float) -> bool:
    left = until - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return pattern.fullmatch(name, timeout=left) is not None


def _compiled(text: str) -> regex.Pattern[str]:
    import regex  # takes as long to import as the rest of studio.model

    try:
        return regex.compile(text)
    except (regex.error, OverflowError, RecursionError) as error:
        why = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise PatternError(f"“{PATTERN}{text}” is not a regular expression: {why}.") from None
