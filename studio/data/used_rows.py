"""The rows of a Dataset node in the order of its files, each as the node uses it.

The step and the check of all rows both read here, so that they agree on what stops a run.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from studio.data.check import first_rows, options_of, stamp_of, stops_at_first_rows
from studio.data.columns import without_split_names
from studio.data.detect import Chosen
from studio.data.drops import Drops
from studio.data.reading.reader import read_rows
from studio.data.reading.source import ReadOptions, SourceRow, bad_file
from studio.data.row_format import Canonical, RowFormat
from studio.errors import StudioError
from studio.graph.schema import Settings
from studio.node_settings.dataset import DatasetSettings

if TYPE_CHECKING:
    from studio.data.split.sides import Side

_RESULTS_KEPT = 16


@dataclass(frozen=True)
class UsedRow:
    """A row of a file; ``ordinal`` counts the rows of all files from 0.

    ``canonical`` is the converted row, or ``None``: the row has an ``error``, is ``dropped`` by its
    number, or is left out as its split says. ``unused`` are its columns that the format does not use.
    """

    row: SourceRow
    ordinal: int
    side: Side
    canonical: Canonical | None = None
    unused: tuple[str, ...] = ()
    error: StudioError | None = None
    dropped: bool = False


class UsedRows:
    """Reads the files of one Dataset node, one after the other."""

    def __init__(self, settings: DatasetSettings, chosen: Chosen, options: ReadOptions) -> None:
        self._settings, self._chosen, self._options = settings, chosen, options
        from studio.data.split.sides import Split  # imports numpy

        self.split = Split(settings)
        self._drops = Drops(settings.drop_rows)
        self.read = 0

    def rows(self, path: Path, held_out: bool) -> Iterator[UsedRow]:
        """The rows of a file up to the row limit; raises ``StudioError`` for damage that hides the
        start of the next row."""
        for row in read_rows(path, self._options, strict=False):
            self.read += 1
            yield self._used(row, path, held_out)
            if self.read == self._settings.limit and not held_out:
                return

    def _used(self, row: SourceRow, path: Path, held_out: bool) -> UsedRow:
        ordinal = self.read - 1
        if self._drops and self._drops.has(self.read, path, row.line):
            self.split.side_or_left_out(ordinal, row)
            return UsedRow(row, ordinal, "left_out", dropped=True)
        try:
            if row.error is not None:
                raise row.error
            side = self.split.side(ordinal, row, validation_file=held_out)
            if side == "left_out":
                return UsedRow(row, ordinal, side)
            canonical, unused = self._chosen.read(row, path)
        except StudioError as error:
            return UsedRow(row, ordinal, "left_out", error=error)
        unused = without_split_names(unused) if side == "validation" else unused
        return UsedRow(row, ordinal, side, canonical, unused)

    def full(self) -> bool:
        """Whether the row limit is reached."""
        return 0 < self._settings.limit <= self.read

    def unused_drops(self) -> str:
        """The excluded rows that do not occur in the files."""
        return self._drops.unused()


def rows_for_format(path: Path, settings: DatasetSettings) -> Sequence[SourceRow]:
    """The rows of the first file from which its format is detected; raises ``StudioError``."""
    options = options_of(settings)
    rows = first_rows(path, options, strict=stops_at_first_rows(settings))
    return rows or list(islice(read_rows(path, options), 1))  # one giant row


_MOST_ROWS = 200_000
_completed: dict[Hashable, tuple[Settings, str]] = {}


def completed(
    chosen: Chosen, settings: DatasetSettings, own: Sequence[Path], held_out: Sequence[Path]
) -> Chosen:
    """The format with what it needs from all rows, such as the labels; from the first 200,000 of a
    larger data set, so that table, report and run use the same. The result is kept for these files.
    """
    payload: RowFormat = chosen.variant.payload
    if payload.complete is None:
        return chosen
    stamps = tuple(stamp_of(p) for p in (*own, *held_out))
    reading = settings.encoding, settings.documents, settings.limit, len(own)
    key = (chosen.variant.id, chosen.settings.model_dump_json(), reading, stamps)
    if key not in _completed:
        rows = islice(_readable(settings, own, held_out), _MOST_ROWS)
        found = payload.complete((row.data for row in rows), chosen.settings)
        if len(_completed) >= _RESULTS_KEPT:
            _completed.clear()
        _completed[key] = found
    own_settings, remark = _completed[key]
    return replace(chosen, settings=own_settings, remark=remark)


def _readable(
    settings: DatasetSettings, own: Sequence[Path], held_out: Sequence[Path]
) -> Iterator[SourceRow]:
    """The rows of all files that can be read, up to the row limit."""
    count = 0
    for path, is_own in [*((p, True) for p in own), *((p, False) for p in held_out)]:
        with suppress(StudioError):  # damage is reported where the rows are used
            for row in read_rows(path, options_of(settings), strict=False):
                if is_own and 0 < settings.limit <= count:
                    break
                count += is_own
                if row.error is None:
                    yield row


def refuse_no_rows(path: Path, rows: int, first_error: StudioError | None, unused: int) -> None:
    """Raise ``StudioError`` when no row is used; ``unused`` rows are left out."""
    if rows:
        return
    if first_error is not None:
        raise first_error
    what = "contains no rows"
    if unused:
        what += ", apart from those that the settings exclude"
    raise bad_file(path, what, "Choose a file that contains rows.", "no_rows")
