"""The first rows of a Dataset node, converted by its format, while its settings are edited.

Needs neither a model nor a complete graph, and does not tokenize.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from studio.data.check import first_rows, options_of
from studio.data.detect import column_map, describe_detection
from studio.data.reading.folder import is_hub
from studio.data.reading.source import SourceRow
from studio.data.window import SourceWindow, open_window
from studio.errors import StudioError
from studio.graph.node_type import Variant
from studio.graph.schema import parse
from studio.node_settings.dataset import DatasetSettings

MOST_ROWS = 200


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
    with open_window(parsed, project_dir, variants) as window:
        found = window.rows(first, first + min(limit, MOST_ROWS) - 1)
        rows = [_row(window, number, row) for number, row in enumerate(found, start=first)]
        return {
            "rows": rows,
            "files": window.remarks(numbers=False),
            **_format(window, parsed, variants),
        }


def _format(
    window: SourceWindow, settings: DatasetSettings, variants: Mapping[str, Variant]
) -> dict[str, Any]:
    """The detected format with the reason, other suitable formats, and the role of each column."""
    chosen = window.chosen
    sample = first_rows(window.files[0], options_of(settings), strict=False)
    columns = tuple(dict.fromkeys(name for row in sample for name in row.data))
    detected = describe_detection(sample, variants)
    return {
        "format": chosen.variant.id,
        "title": chosen.variant.title,
        "reason": chosen.reason,
        "confidence": chosen.confidence,
        "columns": columns,
        "column_map": column_map(chosen.variant, chosen.settings, columns),
        "formats": [dict(zip(_DETECTED, d, strict=True)) for d in detected],
    }


_DETECTED = ("id", "title", "confidence", "reason")


def _row(window: SourceWindow, number: int, row: SourceRow) -> dict[str, Any]:
    place = {"number": number, "line": row.line, "source": str(row.path.resolve())}
    try:
        if row.error is not None:
            raise copy.copy(row.error)
        canonical = window.chosen.convert(row, row.path)
    except StudioError as error:
        return {**place, "error": error.sentence, "hint": error.hint}
    return {**place, "row": json.loads(json.dumps(canonical, default=str))}
