"""The rows that were read become the folders ``train`` and ``validation``.

Leaks are judged here, where all sides are known. Rows are copied as a stream, not
through mapped memory. ``held_out.npy`` keeps the order of the file: one bit a row.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from studio.data.split.settled import settled
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from studio.runs.context import StepContext
from studio.training.data.arrow import RowWriter, data_file
from studio.training.data.canonical import FEATURES
from studio.training.data.row_tally import Tally

ORDER = "held_out.npy"


def split_rows(
    context: StepContext, settings: DatasetSettings, tally: Tally, name: str
) -> tuple[int, int]:
    """Copy ``rows`` into ``train`` and ``validation``; returns how many rows are in each."""
    kept, held_out = _sides(context, settings, tally)
    counts = int((kept & ~held_out).sum()), int((kept & held_out).sum())
    _refuse_one_side(settings, counts)
    everything = context.folder / "rows"
    if kept.all() and not counts[1]:
        everything.rename(context.folder / "train")
    else:
        context.phase("split", "Splitting the rows")
        _copy(context, everything, {"train": kept & ~held_out, "validation": kept & held_out}, name)
        shutil.rmtree(everything)
    write_order(context.folder, held_out[kept])
    return counts


def write_order(folder: Path, held_out: Any) -> None:
    """Keep which rows, in the order of the source, are held out."""
    np.save(folder / ORDER, np.packbits(np.asarray(held_out, dtype=bool)))


def read_order(folder: Path, count: int) -> Any:
    """Which of ``count`` rows are held out, in the order of the source; ``None`` where unknown."""
    try:
        bits = np.unpackbits(np.load(folder / ORDER))
    except (OSError, ValueError):
        return None
    return bits[:count].astype(bool) if len(bits) >= count else None


def _sides(context: StepContext, settings: DatasetSettings, tally: Tally) -> tuple[Any, Any]:
    """(rows that are kept, rows that are held out), both as boolean arrays."""
    hashes = np.array(tally.hashes, dtype=np.uint64)
    own = np.frombuffer(bytes(tally.sides), np.uint8).astype(bool)
    kept, held_out = settled(settings, np.array(tally.ordinals), own, hashes)
    _told(context, int((~kept).sum()), "duplicate was", "duplicates were", "left out")
    if settings.drop_validation_leaks:
        leaks = kept & held_out & np.isin(hashes, hashes[kept & ~held_out])
        held_out &= ~leaks
        _told(
            context,
            int(leaks.sum()),
            "validation row was",
            "validation rows were",
            "moved to training, where the same content is",
        )
    return kept, held_out


def _told(context: StepContext, count: int, one: str, many: str, what: str) -> None:
    if count:
        context.notice(f"{count} {one if count == 1 else many} {what}.", level="info")


def _refuse_one_side(settings: DatasetSettings, counts: tuple[int, int]) -> None:
    if counts[0] == 0:
        raise StudioError(
            "no row is left to train on: all are validation rows.",
            hint="Choose another split, or look at the values of its column.",
            field="split_mode",
            code="no_train_rows",
        )
    if counts[1] == 0 and settings.split_mode in ("column", "file"):
        raise StudioError(
            "no row is a validation row."
            if settings.split_mode == "file"
            else f"no row is a validation row: the column “{settings.split_column}” never says so.",
            hint="Choose another split, or “None”.",
            field="split_mode",
            code="no_validation_rows",
        )
    if counts[1] == 0 and settings.split_mode == "group" and settings.validation_fraction > 0:
        raise StudioError(
            f"all rows have the same value in the column “{settings.group_column}”, so that no group "
            "can be held out.",
            hint="Name another column, or choose another split.",
            field="group_column",
            code="one_group",
        )


def _copy(context: StepContext, folder: Path, sides: Mapping[str, Any], name: str) -> None:
    """Write the rows of each side, in one pass; a side without rows leaves no folder."""
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
