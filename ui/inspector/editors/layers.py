"""The linear layers of a base model, grouped by the last part of their name.

A bridge to ``studio.models``, which knows how to read them without torch. A model that cannot be
read here is no error: the sentence says why, and names can be typed instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.layer_names import matches
from studio.layers import LinearModule, presets, resolve_targets
from studio.models import linear_modules
from studio.targets import PATTERN
from studio.whole import layer_of


def find_layers(model: str | None, project_dir: Path) -> tuple[list[LinearModule], str]:
    """The model's linear layers, and a sentence that says why there are none."""
    if not model:
        return [], "No base model is connected, so its layers are not known yet."
    found = linear_modules(model, project_dir)
    if not found:
        return [], f"The layers of {model} are known once it is on this computer."
    return found, ""


def checked_of(value: Any, modules: Sequence[LinearModule]) -> tuple[set[str], list[str]]:
    """The full names that a setting (a preset, names, a pattern) stands for, and words of it that
    match no layer."""
    if isinstance(value, str) and value.startswith(PATTERN):
        try:
            pattern = re.compile(value.removeprefix(PATTERN))
        except re.error:
            return set(), [value]
        return {m.name for m in modules if pattern.fullmatch(m.name)}, []
    targets, strange = resolve_targets(
        modules, value if isinstance(value, str) else list(value or ())
    )
    return {m.name for m in modules if any(matches(m.name, t) for t in targets)}, strange


def written(checked: set[str], modules: Sequence[LinearModule]) -> str | list[str]:
    """The shortest setting for these layers: a preset, else kinds that are wanted whole and the full
    names of the others."""
    for preset, targets in presets(modules).items():
        if checked and checked == {
            m.name for m in modules if any(matches(m.name, t) for t in targets)
        }:
            return preset
    names: list[str] = []
    for kind, found in by_kind(modules).items():
        wanted = [m.name for m in found if m.name in checked]
        whole = len(wanted) == len(found) == sum(matches(m.name, kind) for m in modules)
        names += [kind] if whole else wanted
    return names


def by_kind(modules: Sequence[LinearModule]) -> dict[str, list[LinearModule]]:
    """Layers by the last part of their names; with its parent where the part alone is not enough."""
    groups: dict[tuple[str, str], list[LinearModule]] = {}
    for module in modules:
        rest, _, last = module.name.rpartition(".")
        groups.setdefault((last, rest.rpartition(".")[2]), []).append(module)
    lasts = [last for last, _ in groups]
    return {
        last if lasts.count(last) == 1 else f"{parent}.{last}": found
        for (last, parent), found in groups.items()
    }


def by_block(modules: Sequence[LinearModule]) -> dict[str, list[LinearModule]]:
    """The layers of each block of the model, by its title."""
    groups: dict[str, list[LinearModule]] = {}
    for module in modules:
        number = layer_of(module.name)
        title = f"Layer {number}" if number is not None else "Outside the layers"
        groups.setdefault(title, []).append(module)
    return groups


def shape_words(modules: Sequence[LinearModule]) -> str:
    """“in → out” of layers that are alike."""
    shapes = {(m.width_in, m.width_out) for m in modules}
    return "{:,} → {:,}".format(*shapes.pop()) if len(shapes) == 1 else "several"
