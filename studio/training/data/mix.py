"""The Mix step: rows of several prepared data sets, sampled with a seed and written as one data
set.

Training rows are mixed with training rows, and validation rows with validation rows. Rows are
streamed, and their content is not inspected.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from studio.data.split.hashing import ranks
from studio.errors import StudioError
from studio.graph.context import StepContext
from studio.node_settings.mix import MixSettings
from studio.system import disk
from studio.training.data.arrow import RowWriter, open_rows
from studio.training.data.features import FEATURES
from studio.training.data.mix_counts import Draw, draws
from studio.values import DatasetValue

_TOGETHER = {"messages", "prompt", "text"}
_WORDS = {
    "messages": "conversations",
    "prompt": "prompts with completions",
    "text": "plain text",
    "preference": "preferences",
    "label": "labelled answers",
}


def mix_datasets(
    context: StepContext, inputs: Mapping[str, Any], settings: MixSettings
) -> DatasetValue:
    """Write ``train`` and ``validation``; raises ``StudioError`` when the data sets are
    incompatible.
    """
    parts = {p: DatasetValue.model_validate(v) for p, v in sorted(inputs.items())}
    _refuse_odd_shapes(context, parts)
    name = _fingerprint(parts, settings)
    counts = {}
    with disk.explain_errors("the rows", context.folder):
        for side in ("train", "validation"):
            rows = {p: _rows(v, side) for p, v in parts.items()}
            counts[side] = _write(context, parts, settings, side, draws(rows, settings, side), name)
    if not counts["train"]:
        raise StudioError(
            "no training rows are used.",
            hint="Check the weights and numbers of rows.",
            field="mode",
            code="no_train_rows",
        )
    context.artifact("dataset", context.folder, rows=sum(counts.values()), format="mix")
    formats = {v.format for v in parts.values()}
    return DatasetValue(
        path=str(context.folder),
        format=formats.pop() if len(formats) == 1 else "mix",
        shape=_shape(parts),
        skipped=sum(v.skipped for v in parts.values()),
        train_rows=counts["train"],
        validation_rows=counts["validation"],
        sha256=hashlib.sha256("".join(v.sha256 for v in parts.values()).encode()).hexdigest(),
        sources=list(dict.fromkeys(s for v in parts.values() for s in v.sources)),
    )


def _rows(value: DatasetValue, side: str) -> int:
    return value.train_rows if side == "train" else value.validation_rows


def _refuse_odd_shapes(context: StepContext, parts: Mapping[str, DatasetValue]) -> None:
    shapes = {v.shape for v in parts.values()}
    if len(shapes) == 1 or shapes <= _TOGETHER:
        return
    contents = ", ".join(f"{p.upper()} contains {_WORDS[v.shape]}" for p, v in parts.items())
    raise StudioError(
        f"these datasets cannot be mixed: {contents}.",
        hint="Mix data of the same kind. Conversations, prompts and plain text can be mixed.",
        code="odd_shapes",
    )


def _shape(parts: Mapping[str, DatasetValue]) -> Any:
    """The common shape of the data sets, or the most structured one if they differ."""
    shapes = {v.shape for v in parts.values()}
    return next((s for s in ("messages", "prompt", "text") if s in shapes), next(iter(shapes)))


def _fingerprint(parts: Mapping[str, DatasetValue], settings: MixSettings) -> str:
    """Identifies the mixed rows: depends on the inputs and the settings."""
    names = {
        p: [
            open_rows(Path(v.path) / s)._fingerprint for s in ("train", "validation") if _rows(v, s)
        ]
        for p, v in parts.items()
    }
    text = json.dumps([names, settings.model_dump(mode="json")], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(
    context: StepContext,
    parts: Mapping[str, DatasetValue],
    settings: MixSettings,
    side: str,
    drawn: Sequence[Draw],
    name: str,
) -> int:
    """Write the training or the validation rows; returns their number."""
    total = sum(d.rows for d in drawn)
    for draw in drawn:
        for sentence in draw.notes:
            context.notice(f"{context.title}: {sentence}")
    if not total:
        return 0
    context.phase("mix", f"Mixing the {'training' if side == 'train' else 'validation'} rows")
    with RowWriter(context.folder / side, FEATURES, f"{name}-{side}") as writer:
        for number, draw in enumerate(drawn):
            folder = Path(parts[draw.port].path) / side
            for mask in _masks(draw, settings.seed + number):
                for table in _taken(folder, mask):
                    writer.write_table(table)
                    context.progress("mix", writer.rows, total, "rows")
    return total


def _masks(draw: Draw, seed: int) -> Iterator[Any]:
    """Masks of the rows to take: full repetitions of the data set, then the remaining rows by rank."""
    full, rest = divmod(draw.rows, draw.there) if draw.there else (0, 0)
    for _ in range(full):
        yield np.ones(draw.there, dtype=bool)
    if rest:
        mask = np.zeros(draw.there, dtype=bool)
        mask[np.argsort(ranks(np.arange(draw.there), seed), kind="stable")[:rest]] = True
        yield mask


def _taken(folder: Path, mask: Any) -> Iterator[pa.Table]:
    """The rows selected by a mask, in batches, read as a stream and not through mapped memory."""
    start = 0
    for part in open_rows(folder).cache_files:
        with pa.OSFile(part["filename"], "rb") as file:
            for batch in pa.ipc.open_stream(file):
                chosen = batch.filter(pa.array(mask[start : start + batch.num_rows]))
                start += batch.num_rows
                yield _all_columns(pa.Table.from_batches([chosen]))


def _all_columns(table: pa.Table) -> pa.Table:
    """The table with every canonical column; missing columns are null."""
    schema = FEATURES.arrow_schema
    for field in schema:
        if field.name not in table.column_names:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    return table.select(schema.names)
