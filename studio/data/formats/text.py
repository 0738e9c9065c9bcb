"""The plain text format: each row is one text that is trained unchanged."""

from __future__ import annotations

from collections.abc import Sequence

from studio.data.columns import STRUCTURE, content_kind, named, normalized
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    column,
    judged,
    text,
)
from studio.graph.node_type import Variant
from studio.graph.schema import Settings, setting

_TEXT = ("content", "document", "body")
COLUMNS = {"text_column": _TEXT}


class TextSettings(Settings):
    """Name of the column."""

    text_column: str = setting(
        "text",
        "Text column",
        "Column with the text, all of which is trained on. Also detected: "
        "“content”, “document” and “body”.",
        min_length=1,
        max_length=200,
    )


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows whose text column holds text."""
    name = named(columns, "text", _TEXT)
    if name is None or any(normalized(c) in STRUCTURE or content_kind(c) for c in columns):
        return NOT_MINE
    sure = 0.9 if len(columns) == 1 else 0.5
    reason = f"the rows have the column {name} and no columns of a conversation"
    return judged(sure, reason, rows, lambda r: not isinstance(r.get(name), (list, dict)))


def convert(row: Row, settings: TextSettings) -> Canonical:
    """The text of the row."""
    name = column(row, settings, "text_column", _TEXT)
    return {"text": text(row, name)}


VARIANT = Variant(
    kind="format",
    id="text",
    title="Plain text",
    order=60,
    help="One column of text, for continued pretraining. Only the end token is added.",
    settings=TextSettings,
    payload=RowFormat(detect, convert, COLUMNS),
)
