"""The payload of an ``exporter`` variant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.values import AdapterValue, ModelValue

if TYPE_CHECKING:
    from studio.graph.context import StepContext

Exportable = ModelValue | AdapterValue


@dataclass(frozen=True)
class Written:
    """What the export has to say about its content: rows of fact and value for the model card, and values for
    the manifest."""

    card: tuple[tuple[str, str], ...] = ()
    manifest: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exporter:
    """``write(context, value, settings, folder)`` fills an empty folder and need not clean up; it may return
    what it has ``Written``.

    ``accepts`` names the supported kinds of value (``model``, ``adapter``). ``size(value)`` is the
    approximate number of bytes to write. ``artifact_kind(value)`` is the kind of the resulting
    artifact.
    """

    accepts: tuple[str, ...]
    write: Callable[[StepContext, Exportable, Any, Path], Written | None]
    size: Callable[[Exportable], int]
    artifact_kind: Callable[[Exportable], str]
