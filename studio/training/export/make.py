"""The Export step: one folder with everything that another program needs, and a model card.

It is written to a staging folder and renamed when complete, so that a full disk or a stop leaves no
partial export. The exporter decides what is written.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import StudioError
from studio.export_folder.folder import replaced, write_manifest
from studio.export_folder.model_card import model_card
from studio.export_folder.trained_on import base_facts
from studio.graph.context import StepContext
from studio.system import disk
from studio.values import AdapterValue, ModelValue
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.node_settings.export import ExportSettings


def export(
    context: StepContext, value_json: Mapping[str, Any], settings: ExportSettings
) -> dict[str, Any]:
    """Write the folder; the node has no outputs. Raises ``StudioError`` with the folder and the free space."""
    value = _value(value_json)
    variant = context.variant("exporter", settings.format)
    exporter: Exporter = variant.payload
    if value.kind not in exporter.accepts:
        raise StudioError(
            f"the format {variant.title} does not support its input.",
            hint="Choose another format.",
            field="format",
            code="wrong_export",
        )
    own = variant.settings.model_validate(settings.format_settings)
    context.phase("export", f"Writing {variant.title}")
    place = settings.folder.strip()
    folder = context.resolve(place) if place else context.folder / "export"
    needed = exporter.size_with(value, own) if exporter.size_with else exporter.size(value)
    disk_errors = disk.explain_errors("the export", folder, needed=needed, field="folder")
    with disk_errors, replaced(folder) as made:
        if place or not exporter.links:
            _refuse_full(folder, needed)
        written = exporter.write(context, value, own, made.staging) or Written()
        _describe(context, value, exporter, made.staging, written)
    if made.folder != folder:
        context.notice(
            f"{folder} could not be replaced, because another program uses a file in it. The export is in "
            f"{made.folder}.",
            "Close the program that uses the earlier export, and rename the folder.",
        )
    context.artifact(exporter.artifact_kind(value), made.folder, exported=True, format=variant.id)
    return {}


def _value(data: Mapping[str, Any]) -> Exportable:
    if data.get("kind") == "adapter":
        return AdapterValue.model_validate(data)
    return ModelValue.model_validate(data)


def _refuse_full(folder: Path, needed: int) -> None:
    room = disk.free_bytes(folder)
    if room is not None and room < needed:
        raise OSError(errno.ENOSPC, "No space left on device")


def _describe(
    context: StepContext, value: Exportable, exporter: Exporter, folder: Path, written: Written
) -> None:
    """Write model card and manifest."""
    card = model_card(value, context.project_name, written.card, written.command)
    (folder / "README.md").write_text(card, encoding="utf-8")
    facts = {"project": context.project_name, **written.manifest}
    if isinstance(value, AdapterValue):
        facts["base"] = base_facts(value.model.model)
    write_manifest(folder, exporter.artifact_kind(value), facts)
