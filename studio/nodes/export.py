"""The Export node: a folder that other programs load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTER, MODEL, input_
from studio.node_settings.export import ExportSettings

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def check(settings: ExportSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the folder is writable and the exporter supports the connected input."""
    from studio.export_folder.folder import quick_check

    return quick_check(settings, context)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: ExportSettings
) -> Mapping[str, Any]:
    """Write the folder with tokenizer, chat template and model card."""
    context.starts_libraries()
    from studio.training.export.make import export

    return export(context, inputs["model"], settings)


NODE = NodeType(
    id="export",
    title="Export",
    version=1,
    category="Result",
    purpose="result",
    icon="package",
    help="Writes a model or an adapter for other programs into a folder, with a model card.",
    stages=("export",),
    settings=ExportSettings,
    run=run,
    check=check,
    inputs=(input_("model", (MODEL, ADAPTER), "Model or adapter"),),
    summary=lambda s: f"{s.format} · {Path(s.folder).name}" if s.folder else s.format,
)
