"""The change of each layer by an adapter, as plain numbers, and the advice that follows.

The numbers come from ``studio.training.adapter.insight``; this is their form in events and for
screens. It must not import torch, and its advice only follows from the numbers.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio.model.layer_names import block_and_part, block_number

ENERGY = 0.95
"Fraction of the squared singular values that the “used” directions hold."

_STILL = 0.05
"A layer whose change is below this share of the median hardly changed."

_ROOMY, _FULL = 0.5, 0.85


@dataclass(frozen=True)
class ModuleUse:
    """One adapted layer. ``norm`` is the Frobenius norm of its change ΔW, ``relative`` that norm
    divided by the weight's own (``None`` where the weight cannot be read), ``used`` the number of its
    ``r`` directions that hold 95 % of the change's energy."""

    name: str
    norm: float
    relative: float | None
    used: int
    r: int

    @property
    def layer(self) -> int | None:
        """The number of the decoder layer, if the name has one."""
        return block_number(self.name)

    @property
    def part(self) -> str:
        """The name within the layer, such as ``self_attn.q_proj``."""
        return block_and_part(self.name)[1]


@dataclass(frozen=True)
class Insight:
    """The adapted layers after ``step`` optimizer steps, in the model's order."""

    step: int
    modules: tuple[ModuleUse, ...]

    def to_json(self) -> dict[str, Any]:
        """The fields of an ``Insight`` event; ``insight_from`` is the inverse."""
        rows = [[m.name, _short(m.norm), _short(m.relative), m.used, m.r] for m in self.modules]
        return {"step": self.step, "modules": rows}


def insight_from(data: Mapping[str, Any]) -> Insight:
    """The insight of an event's fields; raises ``KeyError``, ``TypeError``, ``ValueError`` or
    ``OverflowError`` for damaged ones."""
    rows = [
        ModuleUse(str(n), float(a), None if b is None else float(b), int(u), int(r))
        for n, a, b, u, r in data["modules"]
    ]
    return Insight(int(data["step"]), tuple(rows))


def _short(value: float | None) -> float | None:
    return float(f"{value:.4g}") if value is not None and math.isfinite(value) else None


def parts(modules: Iterable[ModuleUse]) -> list[str]:
    """The names within a layer, each once, in order of appearance."""
    return list(dict.fromkeys(m.part for m in modules))


def advice(insight: Insight) -> list[str]:
    """Advice that follows from the numbers; empty before any layer has changed."""
    moved = [m for m in insight.modules if m.norm > 0]
    if not moved:
        return []
    return [*_about_rank(moved), *_about_place(moved)]


def _about_rank(moved: Sequence[ModuleUse]) -> list[str]:
    ranks = {m.r for m in moved}
    r, used = max(ranks), sorted(m.used for m in moved)
    median, most = int(statistics.median(used)), used[math.ceil(0.9 * len(used)) - 1]
    sentences = [
        f"{100 * ENERGY:.0f}\u00a0% of the change of a layer lies in {median} of {r} singular "
        f"directions (median over layers; 90th percentile: {most})."
    ]
    if r < 4 or len(ranks) > 1:
        return sentences
    if most <= _ROOMY * r:
        sentences.append(
            f"A rank of {_next_rank(most)} would preserve nearly all of it: train with a lower "
            "rank, or reduce this adapter with a Resize node."
        )
    elif median >= _FULL * r:
        sentences.append("Nearly all singular directions are in use: a higher rank may learn more.")
    return sentences


def _next_rank(used: int) -> int:
    """The smallest usual rank that is not below ``used``."""
    return 1 << max(0, math.ceil(math.log2(max(1, used))))


def _about_place(moved: Sequence[ModuleUse]) -> list[str]:
    sized = [(m.relative if m.relative is not None else m.norm, m) for m in moved]
    middle = statistics.median(v for v, _ in sized)
    largest, where = max(sized, key=lambda pair: pair[0])
    sentences = []
    if middle > 0 and largest > 5 * middle:
        sentences.append(
            f"The largest change, {largest / middle:.0f} times the median, is in {where.name}."
        )
    still = [m for v, m in sized if v < _STILL * middle]
    if still:
        names = ", ".join(parts(still)[:3])
        sentences.append(
            f"{len(still)} of {len(moved)} layers hardly changed ({names}): excluding them "
            "would make the adapter smaller."
        )
    return sentences
