"""Detects the format of a file, and converts its rows with file and line in every error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from studio.chat_templates import template_kwargs
from studio.data.reading.source import SourceRow, bad_file
from studio.data.reading.structs import without_filler
from studio.data.row_format import Canonical, Detection, Row, RowError, RowFormat, optional_column
from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, problems_in

AUTO = "auto"
KWARGS = "chat_template_kwargs"
"""The key of a row with its own variables of the chat template, in every format."""
_SURE_ENOUGH = 0.3
_CLOSE = 0.1


@dataclass(frozen=True)
class Chosen:
    """A format with its settings; ``reason`` says why it was detected, and is empty if it was chosen."""

    variant: Variant
    settings: Settings
    reason: str = ""
    confidence: float = 1.0

    def convert(self, row: SourceRow, path: Path) -> Canonical:
        """The canonical row; raises ``StudioError`` with file, line and column."""
        payload: RowFormat = self.variant.payload
        try:
            return _with_kwargs(payload.convert(row.data, self.settings), row.data)
        except RowError as error:
            located = bad_file(path, error.what, error.hint, error.code, line=row.line)
            if error.setting is not None:
                located.field = "format" if self.reason else f"format_settings.{error.setting}"
            raise located from error


def _with_kwargs(canonical: Canonical, row: Row) -> Canonical:
    """The row with its own variables of the chat template, which any conversation may have."""
    given = row.get(KWARGS)
    if given is None or not canonical.get("messages"):
        return canonical
    try:
        found = template_kwargs(without_filler(given))
    except ValueError as error:
        raise RowError(
            f"has {error} in “{KWARGS}”",
            "Write an object such as {“enable_thinking”: false}, or remove it.",
            column=KWARGS,
            code="bad_template_kwargs",
        ) from error
    return {**canonical, KWARGS: found} if found else canonical


def choose_format(
    path: Path,
    format_id: str,
    own_settings: Mapping[str, Any],
    rows: Sequence[SourceRow],
    variants: Mapping[str, Variant],
) -> Chosen:
    """The named format, or for ``auto`` the one that best fits the first rows."""
    if format_id != AUTO:
        variant = variants[format_id]
        return Chosen(variant, _parsed(variant, own_settings))
    found = detect(rows, variants)
    if not found or found[0][1].confidence < _SURE_ENOUGH:
        columns = ", ".join(_columns(rows)) or "none"
        raise bad_file(
            path,
            f"fits no known format; its columns are {columns}",
            "Choose the format, and name its columns in the format settings.",
            "unknown_format",
        )
    variant, detection = found[0]
    known = {k: v for k, v in own_settings.items() if k in variant.settings.model_fields}
    reason = detection.reason + _rival(found)
    return Chosen(variant, _parsed(variant, known), reason, detection.confidence)


def _rival(found: Sequence[tuple[Variant, Detection]]) -> str:
    """Names the second-best format if it fits nearly as well."""
    (_, best), (other, next_best) = found[0], found[1] if len(found) > 1 else found[0]
    if len(found) < 2 or next_best.confidence < _SURE_ENOUGH:
        return ""
    close = best.confidence - next_best.confidence < _CLOSE
    return f"; “{other.title}” would fit too" if close else ""


def detect(
    rows: Sequence[SourceRow], variants: Mapping[str, Variant]
) -> list[tuple[Variant, Detection]]:
    """All formats with their confidence, in descending order."""
    columns, data = _columns(rows), [r.data for r in rows]
    judged = [(v, v.payload.detect(columns, data)) for v in variants.values()]
    return sorted(judged, key=lambda pair: (-pair[1].confidence, pair[0].order))


def describe_detection(
    rows: Sequence[SourceRow], variants: Mapping[str, Variant]
) -> list[tuple[str, str, float, str]]:
    """(id, title, confidence, reason) of every format that fits, by descending confidence."""
    found = detect(rows, variants)
    return [(v.id, v.title, d.confidence, d.reason) for v, d in found if d.confidence > 0]


def column_map(variant: Variant, settings: Settings, columns: Sequence[str]) -> dict[str, Any]:
    """``bound``: the column of this file for each setting that names a column, or ``None``.

    ``unused``: the columns that the format does not use, in the order of the file.
    """
    payload: RowFormat = variant.payload
    bound = {f: optional_column(columns, settings, f, a) for f, a in payload.columns.items()}
    taken = {*bound.values(), *payload.used(settings)}
    unused = () if "row" in taken else tuple(c for c in columns if c not in taken)
    return {"bound": bound, "unused": unused}


def _columns(rows: Sequence[SourceRow]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for row in rows for name in row.data))


def _parsed(variant: Variant, values: Mapping[str, Any]) -> Settings:
    try:
        return variant.settings.model_validate(dict(values))
    except ValidationError as error:
        problem = problems_in(variant.settings, dict(values), None, variant.title)[0]
        raise StudioError(
            problem.sentence,
            hint=problem.hint,
            field=f"format_settings.{problem.field}",
            code=problem.code,
        ) from error
