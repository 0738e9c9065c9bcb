"""Writes Arrow folders for ``datasets.load_from_disk``, one batch of rows at a time.

``Dataset.save_to_disk`` needs the complete data set first and prints a progress bar. Here memory is
bounded by one batch. This module does not depend on what the rows mean.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Dataset, DatasetInfo, Features

_DATA = "data-00000-of-00001.arrow"


class RowWriter:
    """Writes one data set; it can be read after the ``with`` block has ended without an error.

    ``fingerprint`` identifies the content for the ``datasets`` library: equal content has an equal
    fingerprint.
    """

    def __init__(self, folder: Path, features: Features, fingerprint: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        self._folder = folder
        self._features = features
        self._fingerprint = fingerprint
        self._schema = features.arrow_schema
        self._stream = pa.ipc.new_stream(str(folder / _DATA), self._schema)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._stream.close()
        if kind is None:
            self._describe()

    def write(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add a batch: a mapping from column names to lists of equal length."""
        arrays = [
            pa.array(columns[field.name], type=field.type, from_pandas=False)
            for field in self._schema
        ]
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        if batch.num_rows:
            self._stream.write_batch(batch)
            self.rows += batch.num_rows

    def write_table(self, table: pa.Table) -> None:
        """Add the rows of a table that has the columns of this data set."""
        if table.num_rows:
            self._stream.write_table(table.select(self._schema.names).cast(self._schema))
            self.rows += table.num_rows

    def _describe(self) -> None:
        DatasetInfo(features=self._features).write_to_directory(str(self._folder))
        state: dict[str, Any] = {
            "_data_files": [{"filename": _DATA}],
            "_fingerprint": self._fingerprint,
            "_format_columns": None,
            "_format_kwargs": {},
            "_format_type": None,
            "_output_all_columns": False,
            "_split": None,
        }
        (self._folder / "state.json").write_text(json.dumps(state, indent=2), encoding="utf-8")


def open_rows(folder: Path) -> Dataset:
    """Open the data set in a folder, memory-mapped."""
    return Dataset.load_from_disk(str(folder), keep_in_memory=False)


def data_file(folder: Path) -> Path:
    """The Arrow file in a folder written by ``RowWriter``."""
    return folder / _DATA
