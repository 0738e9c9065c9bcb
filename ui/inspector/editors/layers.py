"""The linear layers of a base model, grouped by the last part of their name.

A bridge to ``studio.model.models``, which knows how to read them without torch. A model that cannot
be read is not an error: a sentence gives the reason, and names can be typed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from studio.model.layer_names import block_number, taker
from studio.model.layer_pattern import PATTERN, PatternError, matched_names
from studio.model.layers import LinearModule, presets, resolve_targets
from studio.model.models import linear_modules
from studio.model.shapes import Linear


def find_layers(model: str | None, project_dir: Path) -> tuple[list[LinearModule], str]:
    """The model's linear layers, and a sentence if there are none."""
    if not model:
        return [], "No base model is connected, so its layers are unknown."
    found = linear_modules(model, project_dir)
    if not found:
        return [], f"The layers of {model} are shown after it has been downloaded."
    return found, ""


def checked_of(value: Any, modules: Sequence[LinearModule]) -> tuple[set[str], list[str]]:
    """The full names that a setting (a preset, names, a pattern) stands for, and words of it that
    match no layer."""
    if isinstance(value, str) and value.startswith(PATTERN):
        try:
            return set(matched_names(value, (m.name for m in modules))), []
        except PatternError:
            return set(), [value]
    targets, strange = resolve_targets(
        modules, value if isinstance(value, str) else list(value or ())
    )
    taken = taker(targets)
    return {m.name for m in modules if taken(m.name)}, strange


def written(
    checked: set[str], rows: Sequence[Linear], modules: Sequence[LinearModule], named: bool = False
) -> str | list[str]:
    """The shortest setting for these rows: a preset (unless they are to be ``named``), else
    complete kinds and the full names of the other layers."""
    for preset, targets in presets(modules).items() if checked and not named else ():
        taken = taker(targets)
        if checked == {r.name for r in rows if any(map(taken, r.aliases))}:
            return preset
    names: list[str] = []
    for kind, found in kinds(rows).items():
        wanted = [r.name for r in found if r.name in checked]
        names += [kind] if len(wanted) == len(found) else wanted
    return names


def kinds(rows: Sequence[Linear]) -> dict[str, list[Linear]]:
    """Rows by the last part of their names; with its parent where the part alone means others too."""
    groups: dict[tuple[str, str], list[Linear]] = {}
    for row in rows:
        rest, _, last = row.name.rpartition(".")
        groups.setdefault((rest.rpartition(".")[2], last), []).append(row)
    ends = Counter(
        end for row in rows for end in {n.rpartition(".")[2] for n in (row.name, *row.aliases)}
    )
    return {
        last if ends[last] == len(found) and parent != "experts" else f"{parent}.{last}": found
        for (parent, last), found in groups.items()
    }


def by_block(rows: Sequence[Linear]) -> dict[str, list[Linear]]:
    """The rows of each block of the model, by its title."""
    groups: dict[str, list[Linear]] = {}
    for row in rows:
        number = block_number(row.name)
        title = f"Layer {number}" if number is not None else "Other layers"
        groups.setdefault(title, []).append(row)
    return groups


def shape_words(rows: Sequence[Linear]) -> str:
    """“in → out” of rows that are alike, with the number of experts."""
    shapes = {(m.width_in, m.width_out, m.experts) for m in rows}
    if len(shapes) > 1:
        return "several"
    width_in, width_out, experts = shapes.pop()
    return f"{width_in:,} → {width_out:,}" + (f" × {experts}" if experts > 1 else "")
