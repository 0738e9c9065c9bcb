"""Writes the rows into the folders ``train`` and ``validation``.

``studio.data.split`` assigns each row to its split. Rows are copied as a stream, not through mapped
memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from studio.data.split.sides import Decision, Split, refuse_empty_side
from studio.graph.context import StepContext
from studio.node_settings.dataset import DatasetSettings
from studio.system import busy_files
from studio.training.data.arrow import RowWriter, data_file
from studio.training.data.features import FEATURES
from studio.training.data.row_counts import RowCounts
from studio.training.data.source_order import write_order


def split_rows(
    context: StepContext, settings: DatasetSettings, counted: RowCounts, name: str
) -> tuple[int, int]:
    """Copy ``rows`` into ``train`` and ``validation``; returns the number of rows in each."""
    decision = _decide(context, settings, counted)
    counts = int(decision.train.sum()), int(decision.validation.sum())
    refuse_empty_side(settings, *counts)
    everything = context.folder / "rows"
    if decision.kept.all() and not counts[1]:
        busy_files.rename(everything, context.folder / "train")
    else:
        context.phase("split", "Splitting the rows")
        _copy(
            context, everything, {"train": decision.train, "validation": decision.validation}, name
        )
        busy_files.tidy(everything)
    write_order(context.folder, decision.held_out[decision.kept])
    return counts


def _decide(context: StepContext, settings: DatasetSettings, counted: RowCounts) -> Decision:
    """The split of each row, and notices about rows that were excluded or moved."""
    decision = Split(settings).decide(
        np.array(counted.ordinals),
        np.frombuffer(bytes(counted.sides), np.uint8).astype(bool),
        np.array(counted.hashes, dtype=np.uint64),
    )
    _notice(context, decision.duplicates, "duplicate was", "duplicates were", "removed")
    _notice(
        context,
        decision.leaks,
        "validation row was",
        "validation rows were",
        "moved to training, which contains the same rows",
    )
    return decision


def _notice(context: StepContext, count: int, one: str, many: str, what: str) -> None:
    if count:
        context.notice(f"{count} {one if count == 1 else many} {what}.", level="info")


def _copy(context: StepContext, folder: Path, sides: Mapping[str, Any], name: str) -> None:
    """Write the rows of both splits in one pass; a split without rows gets no folder."""
    used = {side: mask for side, mask in sides.items() if mask.any()}
    total = len(sides["train"])
    start = 0
    with ExitStack() as stack:
        file = stack.enter_context(pa.OSFile(str(data_file(folder)), "rb"))
        writers = {
            side: stack.enter_context(RowWriter(context.folder / side, FEATURES, f"{name}-{side}"))
            for side in used
        }
        for batch in pa.ipc.open_stream(file):
            end = start + batch.num_rows
            for side, writer in writers.items():
                chosen = batch.filter(pa.array(used[side][start:end]))
                writer.write_table(pa.Table.from_batches([chosen]))
            start = end
            context.progress("split", start, total, "rows")
