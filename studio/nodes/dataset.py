"""The Dataset node: files of examples, read in one of the known formats and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    """Quick look at the files (chosen, there, not empty, of a known kind), and what a check of all rows
    has found."""
    from studio.data.check import quick_check
    from studio.data.kept_checks import kept_problems

    found = list(quick_check(settings, context))
    yield from found
    if context.all_rows and not any(p.blocks for p in found):
        yield from kept_problems(settings, context)


def facts(settings: DatasetSettings, project_dir: Path) -> Iterable[Fact]:
    """What the names of the files decide, and how many rows were checked if not all were."""
    from studio.data.kept_checks import kept_facts
    from studio.data.sources import facts_of_sources

    yield from facts_of_sources(settings, project_dir)
    yield from kept_facts(settings, project_dir)


def choices(settings: DatasetSettings, project_dir: Path, field: str) -> Sequence[str]:
    """The configurations, splits, sheets or tables of the files."""
    from studio.data.sources import choices_of

    return choices_of(settings, project_dir, field)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: DatasetSettings
) -> Mapping[str, Any]:
    """Read, check and split the rows."""
    del inputs
    context.starts_libraries()
    from studio.training.data.rows import prepare_rows

    return {"dataset": prepare_rows(context, settings).to_json()}


NODE = NodeType(
    id="dataset",
    title="Dataset",
    version=3,
    category="Data",
    purpose="prepare",
    icon="database",
    help="Training examples. Each row becomes one example.",
    stages=("prepare",),
    settings=DatasetSettings,
    run=run,
    files=files,
    check=check,
    facts=facts,
    choices=choices,
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
