"""The Dataset node: a file of examples, read in one of the known formats and split."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.errors import Problem
from studio.graph.node_type import CheckContext, NodeType
from studio.graph.ports import DATASET, output
from studio.graph.schema import Settings, setting

if TYPE_CHECKING:
    from studio.runs.context import StepContext


class DatasetSettings(Settings):
    """Where the examples are and how to read them."""

    source: str = setting(
        "", "File", "The file with your examples: JSONL, JSON, CSV or Parquet. A relative path starts "
        "from the project's folder.", widget="file", placeholder="examples.jsonl",
    )  # fmt: skip
    format: str = setting(
        "auto", "Format", "How one example is written. Detect looks at the first rows.",
        variant="format", special={"auto": "Detect"},
    )  # fmt: skip
    format_settings: dict[str, Any] = setting(
        {}, "Format settings", "Settings of the chosen format.", advanced=True
    )
    validation_fraction: float = setting(
        0.1, "Validation share", "Share of the rows kept out of training to measure it honestly. "
        "0.05 to 0.2 is usual; 0 switches validation off.", ge=0.0, le=0.9, step=0.01,
    )  # fmt: skip
    seed: int = setting(
        0,
        "Split seed",
        "Another number picks other validation rows.",
        ge=0,
        le=2**31 - 1,
        advanced=True,
    )
    limit: int = setting(
        0, "Row limit", "Use only the first rows; handy for a quick try. 0 uses all.", unit="rows", ge=0,
        special={0: "all"}, advanced=True,
    )  # fmt: skip


def files(settings: DatasetSettings, project_dir: Path) -> Iterable[Path]:
    """The file that is read."""
    from studio.formats._check import source_path

    return [source_path(settings.source, project_dir)] if settings.source.strip() else []


def check(settings: DatasetSettings, context: CheckContext) -> Iterable[Problem]:
    """Quick look at the file: chosen, there, not empty, of a known kind."""
    from studio.formats._check import quick_check

    return quick_check(settings, context)


def run(
    context: StepContext, inputs: Mapping[str, Any], settings: DatasetSettings
) -> Mapping[str, Any]:
    """Read, check and split the rows."""
    del inputs
    from studio.training.rows import prepare_rows

    return {"dataset": prepare_rows(context, settings).to_json()}


NODE = NodeType(
    id="dataset", title="Dataset", version=1, category="Data", icon="database",
    help="Your examples. Each row becomes one training example.",
    settings=DatasetSettings, run=run, files=files, check=check,
    outputs=(output("dataset", DATASET, "Dataset", "The rows, split into train and validation."),),
    summary=lambda s: Path(s.source).name or "no file chosen",
)  # fmt: skip
