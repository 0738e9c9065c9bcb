"""The linear layers of a base model, grouped by the last part of their name.

A bridge to ``studio.models``, which knows how to read them without torch. A model that cannot be
read here is no error: the sentence says why, and names can be typed instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import StudioError


@dataclass(frozen=True)
class LayerGroup:
    """All linear layers that share a name such as ``q_proj``; ``shape`` is (out, in) in words."""

    name: str
    count: int
    shape: str


def find_layers(model: str | None, project_dir: Path) -> tuple[list[LayerGroup], str]:
    """The model's layer groups, and a sentence that says why there are none."""
    if not model:
        return [], "No base model is connected, so its layers are not known yet."
    try:
        from studio import models
    except ImportError:
        return [], "The layers of the model cannot be read here."
    try:
        found = models.linear_modules(model, project_dir)
    except StudioError as error:
        return [], error.sentence
    if not found:
        return [], f"The layers of {model} are known once it has been fetched."
    return grouped(found), ""


def grouped(modules: Iterable[Any]) -> list[LayerGroup]:
    """Modules (with ``name`` and ``shape``) by the last part of their names, in their order."""
    groups: dict[str, list[Any]] = {}
    for module in modules:
        groups.setdefault(module.name.rpartition(".")[2], []).append(module)
    return [LayerGroup(name, len(found), _shapes(found)) for name, found in groups.items()]


def _shapes(modules: Sequence[Any]) -> str:
    shapes = {tuple(m.shape) for m in modules if m.shape}
    if len(shapes) != 1:
        return "several shapes" if shapes else ""
    return " × ".join(map(str, shapes.pop()))


def in_preset(preset: Any, layers: Sequence[LayerGroup]) -> list[str]:
    """The groups that a preset stands for, as a start for an own selection."""
    names = [layer.name for layer in layers]
    if preset == "q,v":
        return [n for n in names if n in ("q_proj", "v_proj", "query", "value")]
    if preset == "attention":
        return [
            n for n in names if any(k in n for k in ("q_proj", "k_proj", "v_proj", "o_proj", "qkv"))
        ]
    return [n for n in names if n != "lm_head"] if preset == "all-linear" else []
