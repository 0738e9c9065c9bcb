"""The Dataset node: files of examples, read in one of the known formats and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, Fact, NodeType
from studio.graph.ports import DATASET, output
from studio.node_settings.dataset import DatasetSettings

if TYPE_CHECKING:
    from studio.graph.context import StepContext


def files(settings: DatasetSettings, project_dir: Path) -> Iterable[Path]:
    """The files that are read."""
    from studio.data.sources import dataset_files

    return dataset_files(settings, project_dir)


def check(settings: DatasetSettings, context: CheckContext) -> Iterable[Problem]:
    """Quick look at the files: chosen, there, not empty, of a known kind."""
    from studio.data.check import quick_check

    return quick_check(settings, context)


def facts(settings: DatasetSettings, project_dir: Path) -> Iterable[Fact]:
    """What the names of the files decide."""
    from studio.data.sources import facts_of_sources

    return facts_of_sources(settings, project_dir)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: DatasetSettings
) -> Mapping[str, Any]:
    """Read, check and split the rows."""
    del inputs
    from studio.training.data.rows import prepare_rows

    return {"dataset": prepare_rows(context, settings).to_json()}


NODE = NodeType(
    id="dataset",
    title="Dataset",
    version=4,
    category="Data",
    icon="database",
    help="Training examples. Each row becomes one example.",
    settings=DatasetSettings,
    run=run,
    files=files,
    check=check,
    facts=facts,
    outputs=(
        output("dataset", DATASET, "Dataset", ("The rows, split into training and validation.")),
    ),
    summary=lambda s: _summary(s.source),
)


def _summary(source: str) -> str:
    """The name of the file; of several, the first one's and how many more there are."""
    parts = [p for p in source.replace("\n", ";").split(";") if p.strip()]
    if not parts:
        return "no file selected"
    first = parts[0].strip()
    name = first if first.startswith("hub:") else Path(first).name
    return name if len(parts) == 1 else f"{name} and {len(parts) - 1} more"
