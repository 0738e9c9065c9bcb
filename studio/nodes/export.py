"""The Export node: a folder that other programs load."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import ADAPTER, MODEL, input_
from studio.graph.schema import Settings, setting

if TYPE_CHECKING:
    from studio.runs.context import StepContext


class ExportSettings(Settings):
    """What is written and where."""

    format: str = setting(
        "safetensors",
        "Format",
        "Safetensors is what transformers, PEFT, vLLM and most tools load.",
        variant="exporter",
    )
    format_settings: dict[str, Any] = setting(
        {}, "Format settings", "Settings of the chosen format.", advanced=True
    )
    folder: str = setting(
        "", "Folder", "Where to write. Empty: inside the run's own folder. A relative path starts from the "
        "project's folder.", widget="folder", placeholder="in the run's folder",
    )  # fmt: skip


def check(settings: ExportSettings, context: CheckContext) -> Iterable[Problem]:
    """Whether the folder can be written and the exporter takes what is wired."""
    from studio.exporters._folder import quick_check

    return quick_check(settings, context)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: ExportSettings
) -> Mapping[str, Any]:
    """Write the folder with tokenizer, chat template and model card."""
    from studio.training.merge.export import export

    return export(context, inputs["model"], settings)


NODE = NodeType(
    id="export", title="Export", version=1, category="Result", icon="package",
    help="Writes a folder that plain transformers and PEFT load, with a model card.",
    settings=ExportSettings, run=run, check=check,
    inputs=(input_("model", (MODEL, ADAPTER), "Model or adapter"),),
    summary=lambda s: f"{s.format} · {Path(s.folder).name}" if s.folder else s.format,
)  # fmt: skip
