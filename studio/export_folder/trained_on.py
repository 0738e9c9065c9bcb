"""Which base an exported adapter belongs to: its name, its commit and the hash of its weights, in the manifest.

Layers and widths are the same in all revisions of a model, so an adapter loads on another one without an error.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.export_folder.folder import MANIFEST
from studio.export_folder.model_card import base_name
from studio.model.folder_files import json_or_empty
from studio.values import ModelValue


@dataclass(frozen=True)
class TrainedOn:
    """``name`` is the Hub ID, or the name of the folder; ``weights`` the sha256 of the weights."""

    name: str
    revision: str | None
    weights: str

    def shown(self) -> str:
        """The name, the commit if it is known, and the beginning of the hash."""
        at = f" at {self.revision[:12]}" if self.revision else ""
        return f"{self.name}{at} (weights {self.weights[:12]})"


def trained_on(base: ModelValue) -> TrainedOn:
    """The facts of a base. No folder of this machine is named."""
    name = base_name(base)
    revision = base.revision if name else None
    return TrainedOn(name or Path(base.source).name, revision, base.weights_sha256)


def base_facts(base: ModelValue) -> dict[str, Any]:
    """The facts for the manifest of an export."""
    found = trained_on(base)
    return {"name": found.name, "revision": found.revision, "weights_sha256": found.weights}


def read_trained_on(folder: Path) -> TrainedOn | None:
    """The base that the manifest beside an adapter names; ``None`` if there is none."""
    found = json_or_empty(folder, MANIFEST).get("base")
    if not isinstance(found, dict):
        return None
    name, revision, weights = (found.get(k) for k in ("name", "revision", "weights_sha256"))
    if not isinstance(name, str) or not isinstance(weights, str) or not weights:
        return None
    return TrainedOn(name, revision if isinstance(revision, str) else None, weights)
