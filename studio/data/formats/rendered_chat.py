"""The format of rendered conversations: a text with the marks of a chat template, read as messages.

Never detected on its own: the check and the report say that a text looks like this, and offer it.
"""

from __future__ import annotations

from collections.abc import Sequence

from studio.data.columns import named
from studio.data.formats.text import COLUMNS, TextSettings
from studio.data.rendered_chat import messages_in_text, style_of
from studio.data.row_format import (
    NOT_MINE,
    Canonical,
    Detection,
    Row,
    RowFormat,
    column,
    text,
)
from studio.graph.node_type import Variant

_UNSURE = 0.25  # listed among the formats that fit, below what is chosen without asking


def detect(columns: Sequence[str], rows: Sequence[Row]) -> Detection:
    """Rows of text that are mostly rendered conversations."""
    name = named(columns, "text", COLUMNS["text_column"])
    texts = [r.get(name) for r in rows] if name else []
    styles = [s.title for t in texts if isinstance(t, str) and (s := style_of(t))]
    if not styles or len(styles) * 2 < len(rows):
        return NOT_MINE
    return Detection(_UNSURE, f"the column {name} holds conversations in the style of {styles[0]}")


def convert(row: Row, settings: TextSettings) -> Canonical:
    """The messages in the text."""
    name = column(row, settings, "text_column", COLUMNS["text_column"])
    return {"messages": messages_in_text(text(row, name), name)}


VARIANT = Variant(
    kind="format",
    id="rendered_chat",
    title="Rendered conversations",
    order=58,
    help="One column of text with conversations already rendered by a chat template: ChatML, Llama, Gemma, "
    "Mistral, Zephyr, Phi, DeepSeek, Alpaca, Vicuna and others. They are converted back to "
    "messages and rendered with the chat template of the Train node; only answers are trained on.",
    settings=TextSettings,
    payload=RowFormat(detect, convert, COLUMNS),
)
