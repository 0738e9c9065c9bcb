"""The Export step: one folder with everything that another program needs, and a model card.

It is written to a staging folder and renamed when complete, so that a full disk or a stop leaves no
partial export. The exporter decides what is written.

If it is uploaded afterwards, it stays in the run folder when that fails, and a resumed run uploads what is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import StudioError
from studio.export_folder.folder import MANIFEST, foreign_files, replaced, write_manifest
from studio.export_folder.model_card import model_card
from studio.export_folder.parity import FILE, Check, needs_hint, sentence_of, worst
from studio.export_folder.trained_on import base_facts
from studio.graph.context import StepContext
from studio.graph.node_type import Variant
from studio.graph.project import json_text
from studio.graph.schema import Settings
from studio.system import busy_files, disk
from studio.system.atomic import write_atomic
from studio.training.export.parity.gate import check_export
from studio.training.export.parity.rows import trained_as
from studio.values import AdapterValue, DatasetValue, ModelValue
from studio.variants.exporter import Exportable, Exporter, Written

if TYPE_CHECKING:
    from studio.node_settings.export import ExportSettings

_NAME = "export"
_MADE = "export.json"
"""Beside an export that is uploaded: that it is complete, and what its check has measured."""
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
    chosen = context.resolve(settings.folder.strip()) if settings.folder.strip() else None
    place = exporter.place(own, context.project_name, chosen) or chosen
    lasting = exporter.publish is not None and not place
    folder = place or (context.checkpoints if lasting else context.folder) / _NAME
    key = _key(value_json, settings)
    found = _earlier(context, folder, key) if lasting else None
    made, checks = found or _make(context, value, variant, own, settings, folder, place)
    _tell(context, checks)
    if made != folder:
        context.notice(
            f"{folder} could not be replaced, because another program uses a file in it. The export is in {made}.",
            "Close the program that uses the earlier export, and rename the folder.",
        )
    more: dict[str, Any] = {}
    if exporter.publish is not None:
        if lasting and found is None:
            _note(context, key, checks)
        more = exporter.publish(context, value, own, made, checks)
        context.reusable = False  # a new run looks whether it is still there
    if lasting:
        made = _moved(made, context.folder / _NAME)
        busy_files.remove(context.checkpoints / _MADE)
    kind = exporter.kind(value, own)
    context.artifact(kind, made, exported=True, format=variant.id, **more)
    return {}


def _moved(made: Path, folder: Path) -> Path:
    """Move an uploaded export to the results of the step."""
    if folder.exists():
        busy_files.tidy(folder)
    busy_files.move_folder(made, folder)
    return folder


def _make(
    context: StepContext,
    value: Exportable,
    variant: Variant,
    own: Any,
    settings: ExportSettings,
    folder: Path,
    place: Path | None,
) -> tuple[Path, list[Check]]:
    """Write, check and describe the export; returns where it is, and the checks."""
    exporter: Exporter = variant.payload
    context.phase("export", f"Writing {variant.title}")
    needed = needed_bytes(exporter, value, own, folder, in_run=place is None)
    disk_errors = disk.explain_errors("the export", folder, needed=needed, field="folder")
    with disk_errors, replaced(folder) as made:
        disk.refuse_full("the export", folder, needed, "folder")
        written = exporter.write(context, value, own, made.staging) or Written()
        evaluated = _evaluated(context, value)
        checks = check_export(
            context, value, made.staging, written.readable, settings.check_rows, evaluated
        )
        if checks and written.rules:
            checks[0] = replace(checks[0], rules=tuple(asdict(rule) for rule in written.rules))
        _describe(context, value, exporter.kind(value, own), made.staging, written, checks)
    return made.folder, list(checks)


def _key(value_json: Mapping[str, Any], settings: ExportSettings) -> str:
    """What determines the export."""
    data = [value_json, settings.model_dump(mode="json")]
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _note(context: StepContext, key: str, checks: Sequence[Check]) -> None:
    """Record that the export in the folder of checkpoints is complete."""
    data = {"key": key, "checks": [check.to_json() for check in checks]}
    write_atomic(context.checkpoints / _MADE, json_text(data))


def _earlier(context: StepContext, folder: Path, key: str) -> tuple[Path, list[Check]] | None:
    """The complete export of a run that was stopped or failed while it was uploaded."""
    try:
        noted = json.loads((context.checkpoints / _MADE).read_text(encoding="utf-8"))
        checks = [Check(**data) for data in noted["checks"]]
        listed = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
        whole = all((folder / name).stat().st_size == size for name, size in listed.items())
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    if noted.get("key") != key or not whole or foreign_files(folder):
        return None
    context.notice("The export that was written and checked before is uploaded.", level="info")
    return folder, checks


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
    exporter: Exporter, value: Exportable, settings: Settings, folder: Path, *, in_run: bool
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
    kind: str,
    folder: Path,
    written: Written,
    checks: Sequence[Check],
) -> None:
    """Write the report of the check, model card and manifest."""
    card = model_card(
        value, context.project_name, written.card, written.command, checks, written.place
    )
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
    write_manifest(folder, kind, facts)
