"""The Export step: one folder with everything that another program needs, and a model card.

It is written to a staging folder and renamed when complete, so that a full disk or a stop leaves no
partial export. The exporter decides what is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import StudioError
from studio.export_folder.folder import replaced, write_manifest
from studio.export_folder.model_card import model_card
from studio.export_folder.parity import FILE, Check, needs_hint, sentence_of, worst
from studio.export_folder.trained_on import base_facts
from studio.graph.context import StepContext
from studio.graph.project import json_text
from studio.system import disk
from studio.training.export.parity.gate import check_export
from studio.training.export.parity.rows import trained_as
from studio.values import AdapterValue, DatasetValue, ModelValue
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.node_settings.export import ExportSettings

_CARD_BYTES = 65_536
"""Room for model card, manifest and the report of the check, and for what the last block of each file leaves empty."""


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
    needed = needed_bytes(exporter, value, own, folder, in_run=not place)
    disk_errors = disk.explain_errors("the export", folder, needed=needed, field="folder")
    with disk_errors, replaced(folder) as made:
        disk.refuse_full("the export", folder, needed, "folder")
        written = exporter.write(context, value, own, made.staging) or Written()
        evaluated = _evaluated(context, value)
        checks = check_export(
            context, value, made.staging, written.readable, settings.check_rows, evaluated
        )
        _describe(context, value, exporter, made.staging, written, checks)
    _tell(context, checks)
    if made.folder != folder:
        context.notice(
            f"{folder} could not be replaced, because another program uses a file in it. The export is in "
            f"{made.folder}.",
            "Close the program that uses the earlier export, and rename the folder.",
        )
    context.artifact(exporter.artifact_kind(value), made.folder, exported=True, format=variant.id)
    return {}


def _tell(context: StepContext, checks: Sequence[Check]) -> None:
    """Report the check of each part; what is not proven is a warning."""
    for check in checks:
        data = check.to_json()
        context.emit("ExportChecked", **data)
        level = "info" if check.verdict == "green" else "warning"
        context.notice(f"Check of the export: {sentence_of(data)}", needs_hint(data), level)


def _evaluated(context: StepContext, value: Exportable) -> DatasetValue | None:
    """The rows on which another step of the run evaluates the same model or its adapter, as far as they are known."""
    trained = trained_as(value)
    same = {value.path, *([trained.path] if trained is not None else [])}
    for inputs in context.other_inputs():
        values = list(inputs.values())
        if any(v.get("path") in same for v in values if v.get("kind") in ("model", "adapter")):
            found = next((v for v in values if v.get("kind") == "dataset"), None)
            if found is not None:
                return DatasetValue.model_validate(found)
    return None


def _value(data: Mapping[str, Any]) -> Exportable:
    if data.get("kind") == "adapter":
        return AdapterValue.model_validate(data)
    return ModelValue.model_validate(data)


def needed_bytes(
    exporter: Exporter, value: Exportable, settings: Any, folder: Path, *, in_run: bool
) -> int:
    """The free space that the export needs at its peak: its files, model card, manifest and report. Links take none, if
    the weights are on the same disk."""
    size = exporter.size_with(value, settings) if exporter.size_with else exporter.size(value)
    linked = exporter.linked(value, settings) if in_run else 0
    if linked and not _same_disk(Path(value.path), folder):
        linked = 0
    return size - linked + _CARD_BYTES


def _same_disk(one: Path, other: Path) -> bool:
    while not other.exists() and other != other.parent:
        other = other.parent
    return one.stat().st_dev == other.stat().st_dev


def _describe(
    context: StepContext,
    value: Exportable,
    exporter: Exporter,
    folder: Path,
    written: Written,
    checks: Sequence[Check],
) -> None:
    """Write the report of the check, model card and manifest."""
    card = model_card(value, context.project_name, written.card, written.command, checks)
    (folder / "README.md").write_text(card, encoding="utf-8")
    facts = {"project": context.project_name, **written.manifest}
    if isinstance(value, AdapterValue):
        facts["base"] = base_facts(value.model.model)
    if checks:
        report = {
            "verdict": worst([c.verdict for c in checks]),
            "checks": [c.to_json() for c in checks],
            "loads": written.manifest.get("loads", {}),
        }
        (folder / FILE).write_text(json_text(report), encoding="utf-8")
        facts["verdict"] = report["verdict"]
    write_manifest(folder, exporter.artifact_kind(value), facts)
