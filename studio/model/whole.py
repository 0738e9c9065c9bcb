"""Which layers full fine-tuning trains: the words of the setting, and the layers they name.

Light, so that the graph can be checked while it is edited. It must not import torch.
"""

from __future__ import annotations

import re

WHOLE = "whole"
"""The method of a training without a LoRA node."""

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d+)(?:\.|$)")
_LAST = re.compile(r"last\s+(\d+)", re.IGNORECASE)
_RANGE = re.compile(r"(\d+)(?:\s*-\s*(\d+))?")


def layer_of(name: str) -> int | None:
    """The number of the layer that a weight belongs to; ``None`` outside of layers."""
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def chosen_layers(words: str, count: int) -> frozenset[int] | None:
    """The layers of ``count`` that “all”, “last 4” or “0-3, 8” name; ``None`` is everything, also
    what belongs to no layer. Raises ``ValueError`` for other words."""
    words = words.strip()
    if words.lower() == "all":
        return None
    last = _LAST.fullmatch(words)
    if last:
        return frozenset(range(max(0, count - int(last.group(1))), count))
    chosen: set[int] = set()
    for part in words.split(","):
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise ValueError(part.strip() or "nothing")
        first = int(found.group(1))
        chosen.update(range(first, int(found.group(2) or first) + 1))
    return frozenset(n for n in chosen if n < count)
