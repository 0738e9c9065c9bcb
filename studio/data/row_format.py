"""What a dataset format is, and the checks that all formats share.

A format turns one row of a file into a canonical row, one of

- ``{"messages": [...], "tools": [...] or absent}``: a conversation. A message has ``role`` (system,
  user, assistant, tool), ``content`` (text) and, if the data has them, ``weight`` (0 or more),
  ``name``, ``reasoning_content``, ``tool_calls`` (arguments as objects), ``tool_call_id`` as chat
  templates take them.
- ``{"prompt": ..., "completion": ...}`` or ``{"text": ...}``: raw text.
- ``{"messages": [...], "chosen": [...], "rejected": [...]}``: a preference; the shared prompt and the
  messages that follow it.
- ``{"messages": [...], "label": True or False}``: a conversation with a thumb up or down (KTO).

A format is one file: it declares its columns with their usual names, evaluates the first rows, and
converts a row.

Formats are independent of files, lines and tokens; the reader adds file and line to their errors.
"""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from studio.data.columns import named
from studio.graph.schema import Settings

Row = Mapping[str, Any]
Canonical = dict[str, Any]
_LONGEST = 1000
_LONGEST_LITERAL = 2_000_000


@dataclass(frozen=True)
class Detection:
    """The confidence (0 to 1) that the rows have this format, and the reason in one line."""

    confidence: float
    reason: str = ""


NOT_MINE = Detection(0.0)
_MOST = 0.9


def judged(sure: float, reason: str, rows: Sequence[Row], fits: Callable[[Row], bool]) -> Detection:
    """A detection that requires most rows to fit; the others become errors later."""
    wrong = sum(not fits(r) for r in rows)
    share = 1 - wrong / max(len(rows), 1)
    if share < 0.5:
        return NOT_MINE
    described = f"{reason} (but not {wrong} of the first {len(rows)} rows)" if wrong else reason
    return Detection(sure if share >= _MOST else sure * share, described)


@dataclass(frozen=True)
class RowFormat:
    """The payload of a ``format`` variant.

    ``detect(columns, rows)`` evaluates the first rows; ``columns`` are all names that occur in
    them. ``convert(row, settings)`` returns the canonical row or raises ``RowError``. ``columns``
    maps each setting that names a column to other names that are also accepted; ``used`` returns
    the columns that other settings (templates) use. ``unused(row, settings)`` names what the format
    leaves out inside the columns that it uses, such as a key of a message. ``complete(rows, settings)``
    is asked once, before rows are converted: it returns the settings with what has to be found in all
    rows, such as the labels, and a sentence about it.
    """

    detect: Callable[[Sequence[str], Sequence[Row]], Detection]
    convert: Callable[[Row, Any], Canonical]
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    used: Callable[[Any], Iterable[str]] = lambda settings: ()
    unused: Callable[[Row, Any], Iterable[str]] = lambda row, settings: ()
    complete: Callable[[Iterable[Row], Any], tuple[Any, str]] | None = None


class RowError(Exception):
    """A row that does not fit: what is wrong (a clause without the position), and a hint.

    ``column`` is the column of the row; ``setting`` is the format's setting to change if the error
    is there and not in the row.
    """

    def __init__(
        self,
        what: str,
        hint: str = "",
        *,
        column: str | None = None,
        code: str = "bad_row",
        setting: str | None = None,
    ) -> None:
        self.what = " ".join(what.split())[:_LONGEST]  # quoted text may contain line ends
        super().__init__(self.what)
        self.hint = hint
        self.column = column
        self.code = code
        self.setting = setting


def optional_column(
    row: Collection[str], settings: Settings, field: str, aliases: Sequence[str] = ()
) -> str | None:
    """The column of a settings field; other names are only tried while it has its default."""
    chosen = str(getattr(settings, field))
    if chosen in row:
        return chosen
    return named(row, chosen, aliases if chosen == _default(type(settings), field) else ())


@cache
def _default(model: type[Settings], field: str) -> Any:
    return model.model_fields[field].default


def column(row: Row, settings: Settings, field: str, aliases: Sequence[str] = ()) -> str:
    """Like ``optional_column``; raises ``RowError`` when the row lacks it."""
    found = optional_column(row, settings, field, aliases)
    if found is None:
        chosen = str(getattr(settings, field))
        raise RowError(
            f"has no column “{chosen}”; its columns are {', '.join(row) or 'none'}",
            "Choose another format, or enter the correct column in the format settings.",
            column=chosen,
            code="missing_column",
        )
    return found


def text(row: Row, name: str, *, empty: bool = False) -> str:
    """The text in a column; numbers become text. Raises ``RowError`` for anything else."""
    return as_text(row[name], f"column “{name}”", name, empty=empty)


def as_text(value: Any, place: str, name: str, *, empty: bool = False) -> str:
    """A value as text. ``place`` describes it in sentences, ``name`` is its column."""
    if isinstance(value, str) and value:
        _refuse_half_characters(value, place, name)
        return value
    is_nan = isinstance(value, float) and value != value
    if is_nan:
        value = None  # an empty cell of a table
    if isinstance(value, float) and math.isinf(value):
        raise RowError(
            f"holds an infinite number in {place}",
            "Correct it, or remove the row.",
            column=name,
            code="not_text",
        )
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if value is None or value == "":
        if empty:
            return ""
        what = "NaN" if is_nan else "null" if value is None else "empty"
        raise RowError(
            f"has no value in {place}: it is {what}",
            "Enter a value, or remove the row.",
            column=name,
            code="empty_content",
        )
    if not isinstance(value, str):
        raise RowError(
            f"has {kind_of(value)} in {place} instead of text",
            "Convert it to text, or choose another column.",
            column=name,
            code="not_text",
        )
    return value


def answer_text(row: Row, name: str) -> str:
    """The answer in a column as text: an object or a list is written as JSON."""
    value = row[name]
    if isinstance(value, (Mapping, list, tuple)) and value:
        return as_json(value, f"column “{name}”", name)
    return text(row, name)


def as_json(
    value: Any,
    place: str,
    name: str,
    hint: str = "Write it as text, or remove the row.",
    code: str = "not_json",
) -> str:
    """A value as JSON text; raises ``RowError`` for values that JSON or UTF-8 cannot represent."""
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise RowError(
            f"contains a value in {place} that JSON does not support ({error})",
            hint,
            column=name,
            code=code,
        ) from error
    return as_text(written, place, name)


def listed(value: Any) -> list[Any] | None:
    """A value that is a list, or the text of one: JSON, or Python's notation as pandas writes it. It may
    be the row's own list, so do not change it."""
    if isinstance(value, list):
        return value
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = _parsed_list(value)
    return list(value) if isinstance(value, (list, tuple)) else None


def _parsed_list(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        pass
    if len(value) > _LONGEST_LITERAL:
        return None
    try:
        return ast.literal_eval(value.strip())
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return None


def _refuse_half_characters(value: str, place: str, name: str) -> None:
    if value.isascii():
        return
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise RowError(
            f"contains half a character (a lone surrogate) in {place}, at position {error.start + 1}",
            "Enter the character again, or remove it.",
            column=name,
            code="bad_character",
        ) from error


def kind_of(value: Any) -> str:
    """The type of a value, as words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, Mapping):
        return "an object"
    kinds = {str: "text", int: "a number", float: "a number", type(None): "null", bytes: "bytes"}
    if isinstance(value, (list, tuple)):
        return "a list"
    return kinds.get(type(value), f"a value of type {type(value).__name__}")
