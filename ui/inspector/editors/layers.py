"""The linear layers of a base model, grouped by the last part of their name.

A bridge to ``studio.models``, which knows how to read them without torch. A model that cannot be
read here is no error: the sentence says why, and names can be typed instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.layers import LinearModule, matches, presets
from studio.models import linear_modules


@dataclass(frozen=True)
class LayerGroup:
    """All linear layers that share a name such as ``q_proj``; ``shape`` is “out × in”."""

    name: str
    count: int
    shape: str


def find_layers(model: str | None, project_dir: Path) -> tuple[list[LinearModule], str]:
    """The model's linear layers, and a sentence that says why there are none."""
    if not model:
        return [], "No base model is connected, so its layers are not known yet."
    found = linear_modules(model, project_dir)
    if not found:
        return [], f"The layers of {model} are known once it is on this computer."
    return found, ""


def grouped(modules: Iterable[LinearModule]) -> list[LayerGroup]:
    """Layers by the last part of their names; with its parent where the part alone is not enough."""
    groups: dict[tuple[str, str], list[LinearModule]] = {}
    for module in modules:
        rest, _, last = module.name.rpartition(".")
        groups.setdefault((last, rest.rpartition(".")[2]), []).append(module)
    lasts = [last for last, _ in groups]
    return [
        LayerGroup(
            last if lasts.count(last) == 1 else f"{parent}.{last}", len(found), _shape(found)
        )
        for (last, parent), found in groups.items()
    ]


def ticked(value: Any, modules: Sequence[LinearModule]) -> list[str]:
    """The group names that a setting (a preset or a list) stands for, and names of no group."""
    if isinstance(value, str):
        targets = presets(modules).get(value, []) if modules else []
    else:
        targets = [str(v) for v in value or ()]
    names = [g.name for g in grouped(modules)]
    found = [n for n in names if any(matches(n, t) for t in targets)]
    strange = [t for t in targets if not any(matches(n, t) for n in names)]
    return found + strange


def _shape(modules: Sequence[LinearModule]) -> str:
    shapes = {(m.width_out, m.width_in) for m in modules}
    return "{} × {}".format(*shapes.pop()) if len(shapes) == 1 else "several shapes"
