"""What an adapter was combined from, as tables: shares, cosines, and the loss of each combination.

Window, terminal and model card show the same words and numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from studio.shown_text import MOST_IN_QUOTES, line
from studio.values import Mixture

BEST, USED, BASE = "lowest loss", "used", "base model"


@dataclass(frozen=True)
class Table:
    """Column heads, and rows of texts; ``marked`` is the row with the lowest loss, or -1."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    marked: int = -1


def mixture_in(artifact: Mapping[str, Any]) -> Mixture | None:
    """The mixture that an artifact of a run describes; ``None`` without one, or if it is damaged."""
    try:
        found = Mixture.model_validate(artifact.get("mixture"))
    except ValidationError:
        return None
    count = len(found.sources)
    complete = all(len(s.cosines) == count for s in found.sources)
    return found if complete and all(len(m.weights) == count for m in found.losses) else None


def tables(mixture: Mixture) -> tuple[Table, ...]:
    """Sources, and losses if there are any."""
    made = _losses(mixture)
    return (_sources(mixture), *([made] if made else []))


def _title(title: str) -> str:
    return line(title, MOST_IN_QUOTES)


def _sources(mixture: Mixture) -> Table:
    names = [_title(s.title) for s in mixture.sources]
    several = len(names) > 1
    rows = []
    for source, name in zip(mixture.sources, names, strict=True):
        cosines = [f"{c:.2f}" for c in source.cosines] if several else []
        rows.append((name, f"{source.weight:.4g}", f"{100 * source.share:.1f} %", *cosines))
    head = ("adapter", "weight", "share of the change", *(f"cosine with {n}" for n in names))
    return Table("Adapters", head if several else head[:3], tuple(rows))


def _losses(mixture: Mixture) -> Table | None:
    if not mixture.losses:
        return None
    best = min(range(len(mixture.losses)), key=lambda i: mixture.losses[i].loss)
    weights = [s.weight for s in mixture.sources]
    rows = []
    for place, measured in enumerate(mixture.losses):
        notes = [BASE] if not any(measured.weights) else []
        notes += [BEST] if place == best else []
        notes += [USED] if measured.weights == weights else []
        numbers = (f"{w:.4g}" for w in measured.weights)
        rows.append((*numbers, f"{measured.loss:.4f}", ", ".join(notes)))
    head = (*(f"weight of {_title(s.title)}" for s in mixture.sources), "loss", "")
    count = f"{mixture.rows} row{'s' if mixture.rows != 1 else ''}"
    return Table(f"Loss on {count}", head, tuple(rows), best)
