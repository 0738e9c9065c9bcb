"""The syntax of layer ranges: “all”, “last 4”, “first 4”, “8-15”, “0, 4-7”, “0-30/2”.

The LoRA node's Layer range and the Train node's Trained layers are read here, and nowhere else. Layers are
counted from 0.
"""

from __future__ import annotations

import re

ALL = "all"
HINT = "Write all, last 4, first 4, 8-15, or 0, 4-7; 0-30/2 is every second layer."

_END = re.compile(r"(first|last)\s+([1-9]\d{0,4})", re.IGNORECASE)
_SPAN = re.compile(r"(\d{1,5})(?:\s*-\s*(\d{1,5})(?:\s*/\s*([1-9]\d{0,4}))?)?")


class LayerRangeError(ValueError):
    """An invalid layer range; the message is a sentence for the user."""


def layer_spans(text: str, count: int) -> list[range] | None:
    """The parts of a layer range for a model with ``count`` layers; ``None`` for “all”. Explicit
    numbers may exceed the last layer. Raises ``LayerRangeError``."""
    parts = [part.strip() for part in text.split(",")]
    if [p.lower() for p in parts] == [ALL]:
        return None
    return [_span(part, count) for part in parts]


def layer_numbers(text: str, count: int) -> frozenset[int] | None:
    """The layer numbers of a range, including those beyond the last layer; ``None`` for “all”.
    Raises ``LayerRangeError``."""
    spans = layer_spans(text, count)
    return None if spans is None else frozenset(n for span in spans for n in span)


def chosen_layers(text: str, count: int) -> frozenset[int] | None:
    """The layers of a model with ``count`` layers that a range names; ``None`` for “all”, which includes
    weights outside the layers. Raises ``LayerRangeError``."""
    numbers = layer_numbers(text, count)
    return None if numbers is None else numbers & frozenset(range(count))


def _span(part: str, count: int) -> range:
    end = _END.fullmatch(part)
    if end:
        size = min(int(end[2]), count)
        return range(size) if end[1].lower() == "first" else range(count - size, count)
    found = _SPAN.fullmatch(part)
    if found is None:
        raise LayerRangeError(f"“{part}” is not a layer range.")
    first, last = int(found[1]), int(found[2] or found[1])
    if last < first:
        raise LayerRangeError(f"“{part}” runs backwards; write {last}-{first}.")
    return range(first, last + 1, int(found[3] or 1))
