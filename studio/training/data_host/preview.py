"""The first rows of a Dataset node, converted by its format, while its settings are edited.

Needs neither a model nor a complete graph, and does not tokenize.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from studio.data.check import first_rows, options_of
from studio.data.columns import has_content
from studio.data.detect import column_map, describe_detection
from studio.data.left_over import left_over
from studio.data.reading.folder import is_hub
from studio.data.reading.source import SourceRow
from studio.data.row_format import Canonical
from studio.data.sources import sources_of
from studio.data.window import SourceWindow, open_window
from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import parse
from studio.node_settings.dataset import DatasetSettings

MOST_ROWS = 200
MOST_CHARACTERS = 20_000
_LONGEST_EXAMPLE = 80


def preview(
    settings: Mapping[str, Any],
    project_dir: Path,
    variants: Mapping[str, Variant],
    first: int,
    limit: int,
) -> dict[str, Any]:
    """The answer to a ``preview`` request; raises ``StudioError`` when no row can be shown."""
    parsed = parse(DatasetSettings, dict(settings))
    assert isinstance(parsed, DatasetSettings)
    if is_hub(parsed.source):
        raise StudioError(
            "A dataset on the Hub is shown after it has been downloaded.",
            hint="Run the project once, or open the Report tab.",
            code="not_here_yet",
        )
    try:
        opened = open_window(parsed, project_dir, variants)
    except StudioError as error:
        if error.code != "unknown_format":
            raise
        return _without_format(parsed, project_dir, variants, error)
    with opened as window:
        found = window.rows(first, first + min(limit, MOST_ROWS) - 1)
        converted = [(row, *_converted(window, row)) for row in found]
        paths = {path: str(path.resolve()) for path in {row.path for row in found}}
        rows = [
            _row(number, paths[row.path], row, canonical, error)
            for number, (row, canonical, error) in enumerate(converted, first)
        ]
        readable = [(row, canonical) for row, canonical, _ in converted if row.error is None]
        return {
            "rows": rows,
            "files": window.remarks(numbers=False),
            **_format(window, parsed, variants, readable),
        }


def _without_format(
    settings: DatasetSettings,
    project_dir: Path,
    variants: Mapping[str, Variant],
    error: StudioError,
) -> dict[str, Any]:
    """The columns of rows that match no format, and the error that says so."""
    first = sources_of(settings, project_dir).train[0]
    sample = first_rows(first, options_of(settings), strict=False)
    columns = tuple(dict.fromkeys(name for row in sample for name in row.data))
    detected = describe_detection(sample, variants, settings.ignored_columns)
    return {
        "rows": [],
        "files": [],
        "error": error.problem().to_json(),
        "columns": columns,
        "examples": _examples(columns, sample),
        "formats": [dict(zip(_DETECTED, d, strict=True)) for d in detected],
    }


def _examples(columns: Sequence[str], rows: Sequence[SourceRow]) -> dict[str, str]:
    """The first value of each column that holds something, as the beginning of a text in one line."""
    found: dict[str, str] = {}
    for name in columns:
        value = next((r.data[name] for r in rows if has_content(r.data.get(name))), None)
        if value is not None:
            text = value if isinstance(value, str) else _as_text(value)
            words = " ".join(text[: 2 * _LONGEST_EXAMPLE].split())
            found[name] = words[:_LONGEST_EXAMPLE] + "…" * (len(words) > _LONGEST_EXAMPLE)
    return found


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _format(
    window: SourceWindow,
    settings: DatasetSettings,
    variants: Mapping[str, Variant],
    rows: Sequence[tuple[SourceRow, Canonical | None]],
) -> dict[str, Any]:
    """The detected format with the reason, other suitable formats, and the role of each column."""
    chosen = window.chosen
    sample = first_rows(window.files[0], options_of(settings), strict=False)
    given = (*sample, *(row for row, _ in rows))
    columns = tuple(dict.fromkeys(name for row in given for name in row.data))
    detected = describe_detection(sample, variants, {*chosen.also_used, *settings.ignored_columns})
    left = left_over(chosen, columns, rows, sample)
    return {
        "format": chosen.variant.id,
        "title": chosen.variant.title,
        "reason": chosen.reason,
        "confidence": chosen.confidence,
        "columns": columns,
        "bound": column_map(chosen.variant, chosen.settings, columns)["bound"],
        "left_over": [[x.name, x.reason] for x in left],
        "examples": _examples([x.name for x in left], given),
        "refused": {
            x.name: {"sentence": x.error.sentence, "hint": x.error.hint} for x in left if x.error
        },
        "formats": [dict(zip(_DETECTED, d, strict=True)) for d in detected],
    }


_DETECTED = ("id", "title", "confidence", "reason")


def _converted(window: SourceWindow, row: SourceRow) -> tuple[Canonical | None, StudioError | None]:
    """The canonical row, as far as it exists, and the error of the row."""
    canonical = None
    try:
        if row.error is not None:
            raise copy.copy(row.error)
        canonical = window.chosen.canonical(row, row.path)
        window.chosen.check_unused(row, row.path, canonical)
    except StudioError as error:
        return canonical, error
    return canonical, None


def _row(
    number: int, source: str, row: SourceRow, canonical: Canonical | None, error: StudioError | None
) -> dict[str, Any]:
    place = {"number": number, "line": row.line, "source": source}
    if error is not None:
        return {**place, "error": error.sentence, "hint": error.hint}
    return {**place, "row": _shortened(json.loads(json.dumps(canonical, default=str)))}


def _shortened(value: Any) -> Any:
    """The value with the beginning of each long text: a row may be an entire book."""
    if isinstance(value, str):
        return value if len(value) <= MOST_CHARACTERS else f"{value[:MOST_CHARACTERS]}…"
    if isinstance(value, list):
        return [_shortened(v) for v in value]
    return {k: _shortened(v) for k, v in value.items()} if isinstance(value, dict) else value
