"""Damage that hides where the next row starts: report and Dataset step say the same of it.

Bad rows can be left out; what cannot be passed is never called skipped.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from studio.training.data.arrow import open_rows
from studio.training.data.rows import prepare_rows
from studio.values import DatasetValue
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_report import report_on

ROWS = [{"text": f"row {n} {hash(str(n)) % 10**9} and more of it"} for n in range(900)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def step(path: Path, on_bad_rows: str) -> DatasetValue:
    context = make_context(path.parent / f"step-{on_bad_rows}", Recorder())
    context.title = "Dataset"
    settings = {"source": str(path), "validation_fraction": 0.0, "on_bad_rows": on_bad_rows}
    return prepare_rows(context, DatasetSettings(**settings))


def write_array(path: Path) -> int:
    path.write_text(
        "[\n" + ",\n".join(json.dumps(r) for r in ROWS[:5]) + ',\n{"text": }\n]', encoding="utf-8"
    )
    return 6


def write_gzip(path: Path) -> int:
    raw = gzip.compress(LINES, mtime=0)
    path.write_bytes(raw[: len(raw) // 2])
    whole = gzip.decompress(gzip.compress(LINES)).count(b"\n")
    assert whole == len(ROWS)
    return 0


def write_encoding(path: Path) -> int:
    text = "".join(json.dumps(row) + "\n" for row in ROWS[:4])
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le") + b"\x00\xdc\x00\x00")
    return 5


def write_stream(path: Path) -> int:
    table = pa.table({"text": [r["text"] for r in ROWS]})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=300):
            stream.write_batch(batch)
    path.write_bytes(path.read_bytes()[:-5000])
    return 601


BROKEN = {
    "rows.json": write_array,
    "rows.jsonl.gz": write_gzip,
    "wide.jsonl": write_encoding,
    "rows.arrow": write_stream,
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("on_bad_rows", ["stop", "skip"])
def test_what_is_behind_the_damage_is_lost_and_never_called_skipped(
    name: str, on_bad_rows: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    row = BROKEN[name](path)
    with pytest.raises(StudioError) as caught:
        step(path, on_bad_rows)
    report = report_on(path, on_bad_rows=on_bad_rows)
    (found,) = [f for f in report.findings if f.code in ("broken_file", "bad_row")]
    assert (found.code, found.severity, found.count, found.fix) == ("broken_file", "error", 1, None)
    assert "skip" not in found.sentence
    (place,) = found.rows
    row = row or place.number  # how far gzip data can be read is up to zlib
    assert (place.number, report.rows) == (row, row)
    assert place.note == f"Dataset: {caught.value.sentence} {caught.value.hint}"
    assert f"row {row} of {name} and all following rows cannot be read." in caught.value.sentence
    assert "Skipping invalid rows does not help" in caught.value.hint


def test_a_file_that_cannot_be_read_at_all_says_only_that(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"rows": [{"text": "a"}], "more": [{"text": "b"}]}', encoding="utf-8")
    with pytest.raises(StudioError, match="contains two lists"):
        step(path, "skip")
    path.write_text("[nothing", encoding="utf-8")
    with pytest.raises(StudioError) as caught:
        step(path, "skip")
    assert "behind it" not in caught.value.sentence


@pytest.mark.parametrize("on_bad_rows", ["stop", "skip"])
def test_a_damaged_row_group_of_parquet_is_bad_rows_and_the_next_one_is_read(
    on_bad_rows: str, tmp_path: Path
) -> None:
    path = tmp_path / "rows.parquet"
    table = pa.table({"text": [r["text"] for r in ROWS]})
    parquet.write_table(table, path, row_group_size=300, use_dictionary=False)
    raw, part = bytearray(path.read_bytes()), parquet.ParquetFile(path).metadata.row_group(1)
    middle = part.column(0).data_page_offset + part.total_byte_size // 4
    raw[middle : middle + 200] = b"\xff" * 200
    path.write_bytes(raw)
    report = report_on(path, on_bad_rows=on_bad_rows)
    (found,) = [f for f in report.findings if f.code == "bad_row"]
    assert (report.rows, found.count, found.rows[0].number) == (900, 300, 301)
    if on_bad_rows == "stop":
        with pytest.raises(StudioError) as caught:
            step(path, on_bad_rows)
        assert found.rows[0].note == f"Dataset: {caught.value.sentence} {caught.value.hint}"
        assert "line 301 of rows.parquet is in a damaged part" in caught.value.sentence
        assert found.fix is not None
        return
    value = step(path, on_bad_rows)
    assert (value.train_rows, value.skipped) == (report.train_rows, report.bad_rows) == (600, 300)
    assert list(open_rows(Path(value.path) / "train")["line"]) == [*range(1, 301), *range(601, 901)]
