"""The rows of a Dataset node in the order of its files, each as the node uses it.

The step and the check of all rows both read here, so that they agree on what stops a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from studio.data.check import first_rows, options_of
from studio.data.detect import Chosen
from studio.data.drops import Drops
from studio.data.reading.reader import read_rows
from studio.data.reading.source import ReadOptions, SourceRow, bad_file
from studio.data.row_format import Canonical
from studio.data.split.sides import Side, Split
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings


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
    rows = first_rows(path, options, strict=settings.on_bad_rows == "stop")
    return rows or list(islice(read_rows(path, options), 1))  # one giant row


def refuse_too_few(
    path: Path, settings: DatasetSettings, rows: int, first_error: StudioError | None, unused: int
) -> None:
    """Raise ``StudioError`` when there are too few used rows; ``unused`` rows are left out."""
    if not rows:
        if first_error is not None:
            raise first_error
        what = "holds no rows"
        if unused:
            what += " but those that the settings leave out"
        raise bad_file(path, what, "Choose a file with rows in it.", "no_rows")
    shares = settings.split_mode in ("fraction", "group") and settings.validation_fraction > 0
    if rows == 1 and (shares or settings.split_mode == "count"):
        error = bad_file(
            path,
            "holds one row, too few to keep a share of them for validation",
            "Set the validation share to 0, or add rows.",
            "too_few_rows",
        )
        error.field = "validation_fraction"
        raise error
