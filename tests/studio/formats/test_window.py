"""The window on a data source: any row at once, bad rows as rows, the sides of the split."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.data.reading.reader import read_rows
from studio.data.window import SourceWindow, open_window
from studio.errors import StudioError
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from tests.studio.formats.test_reading import write_csv, write_json, write_parquet
from tests.timing import cpu_limit

VARIANTS = load_registry().variants["format"]


def window(folder: Path, **settings: Any) -> SourceWindow:
    return open_window(DatasetSettings(**settings), folder, VARIANTS)


def numbered(count: int) -> list[dict[str, str]]:
    return [{"prompt": f"q{i}\n{'é' * (i % 7)}", "completion": f"a{i}, “b”"} for i in range(count)]


def write_rows(path: Path, count: int) -> None:
    path.write_text("".join(json.dumps(r) + "\n" for r in numbered(count)), encoding="utf-8")


def as_csv(path: Path) -> None:
    lines = [f'"{r["prompt"]}","{r["completion"]}"\r\n' for r in numbered(300)]
    path.write_bytes(("prompt,completion\r\n" + "\r\n".join(lines)).encode())


def as_jsonl(path: Path) -> None:
    lines = [
        json.dumps(r, ensure_ascii=False) + "\n" * (1 + i % 3) for i, r in enumerate(numbered(300))
    ]
    path.write_bytes(b"\xef\xbb\xbf" + ("  \n" + "".join(lines)).encode())


def as_json(path: Path) -> None:
    rows = json.dumps(numbered(300), indent=1, ensure_ascii=False)
    path.write_text(rows, encoding="utf-8")


def as_packed(path: Path) -> None:
    path.write_bytes(gzip.compress("\n".join(json.dumps(r) for r in numbered(300)).encode()))


def as_utf16(path: Path) -> None:
    path.write_text("\n".join(json.dumps(r) for r in numbered(300)), encoding="utf-16")


def as_parquet(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(numbered(300)), path, row_group_size=70)


def as_stream(path: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist(numbered(300))
    with pa.ipc.new_stream(str(path), table.schema) as stream:
        stream.write_table(table, 70)


def as_arrow_file(path: Path) -> None:
    import pyarrow as pa

    table = pa.Table.from_pylist(numbered(300))
    with pa.ipc.new_file(str(path), table.schema) as file:
        file.write_table(table, 70)


KINDS: dict[str, Callable[[Path], None]] = {
    "a.csv": as_csv,
    "a.jsonl": as_jsonl,
    "a.json": as_json,
    "a.jsonl.gz": as_packed,
    "b.jsonl": as_utf16,
    "a.parquet": as_parquet,
    "a.arrow": as_stream,
    "a.feather": as_arrow_file,
}


@pytest.mark.parametrize("name", KINDS)
def test_every_row_is_the_one_that_a_reading_gives(name: str, tmp_path: Path) -> None:
    KINDS[name](tmp_path / name)
    read = [(r.line, r.data) for r in read_rows(tmp_path / name)]
    assert [d for _, d in read] == numbered(300)
    with window(tmp_path, source=name) as shown:
        for first, last in ((200, 260), (1, 1), (300, 300), (299, 400), (15, 18), (1, 300)):
            found = shown.rows(first, last)
            assert [(r.line, r.data) for r in found] == read[first - 1 : last], (first, last)
        assert shown.count() == 300
        assert shown.rows(301, 310) == []


def test_any_row_of_a_hundred_thousand_is_there_within_a_second(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 100_000)
    with cpu_limit(1.0), window(tmp_path, source="rows.jsonl") as shown:
        (row,) = shown.rows(99_999, 99_999)
        assert shown.count() == 100_000
    assert (row.line, row.data) == (99_999, numbered(99_999)[-1])


def test_bad_rows_are_rows_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(
        '{"text": "é ü"}\n{broken\n\n'.encode() + b'{"text": "caf\xe9"}\n{"text": "b"}\n'
    )
    with window(tmp_path, source="a.jsonl") as shown:
        rows = shown.rows(1, 10)
    assert [r.line for r in rows] == [1, 2, 4, 5]
    assert [r.error.code if r.error else "" for r in rows] == [
        "",
        "corrupt_json",
        "wrong_encoding",
        "",
    ]


def test_a_file_that_breaks_off_shows_what_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(
        '[\n{"text": "a"},\n{"text": "b"},\n{"text": ', encoding="utf-8"
    )
    with window(tmp_path, source="a.json", on_bad_rows="skip") as shown:
        assert shown.count() == 3
        rows = shown.rows(1, 3)
    assert [r.data.get("text") for r in rows] == ["a", "b", None]
    assert rows[2].error is not None
    assert rows[2].line == 4


def test_gzip_that_breaks_off_shows_what_is_whole(tmp_path: Path) -> None:
    lines = [json.dumps({"text": hashlib.sha256(str(n).encode()).hexdigest()}) for n in range(5000)]
    packed = gzip.compress("\n".join(lines).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with window(tmp_path, source="a.jsonl.gz", on_bad_rows="skip") as shown:
        count = shown.count()
        first, last = shown.rows(1, 1)[0], shown.rows(count, count)[0]
    assert 1000 < count < 4000
    assert first.data == json.loads(lines[0])
    assert last.error is not None
    assert f"after line {count - 1}" in last.error.sentence


def test_several_files_are_counted_through(tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv")
    write_json(tmp_path / "b.json")
    write_parquet(tmp_path / "c.parquet")
    with window(tmp_path, source="a.csv; b.json\nc.parquet", limit=8) as shown:
        assert shown.count() == 8
        found = shown.rows(3, 7)
        assert [(r.path.name, r.line) for r in found] == [
            ("a.csv", 5),
            ("b.json", 2),
            ("b.json", 6),
            ("b.json", 10),
            ("c.parquet", 1),
        ]
        assert len(shown.rows(1, 100)) == 8


def test_the_row_limit_is_not_for_the_validation_file(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", 20)
    write_rows(tmp_path / "held_out.jsonl", 5)
    held_out = {"split_mode": "file", "validation_source": "held_out.jsonl"}
    with window(tmp_path, source="rows.jsonl", limit=8, **held_out) as shown:
        assert (shown.count(), shown.own_count()) == (13, 8)
        names = [row.path.name for row in shown.rows(1, 100)]
    assert names == ["rows.jsonl"] * 8 + ["held_out.jsonl"] * 5


@pytest.mark.parametrize(
    "settings",
    [
        {"validation_fraction": 0.2},
        {"split_mode": "count", "validation_count": 30},
        {"split_mode": "group", "group_column": "completion", "validation_fraction": 0.3},
        {"split_mode": "none"},
    ],
)
def test_the_sides_are_those_of_the_step(settings: dict[str, Any], tmp_path: Path) -> None:
    from studio.training.data.by_number import WindowRows
    from studio.training.data.rows import prepare_rows
    from tests.studio.training.steps import Recorder, make_context
    from tests.studio.training.test_rows import lines_of

    write_rows(tmp_path / "rows.jsonl", 150)
    value = prepare_rows(
        make_context(tmp_path, Recorder()), DatasetSettings(source="rows.jsonl", **settings)
    )
    with window(tmp_path, source="rows.jsonl", **settings) as shown:
        rows = WindowRows("Dataset", shown).rows(1, 150)
    held_out = [row.number for row in rows if row.split == "validation"]
    assert held_out == (lines_of(value, "validation") if value.validation_rows else [])


def test_no_window_on_nothing(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="no file is chosen"):
        window(tmp_path)
    (tmp_path / "a.jsonl").write_text('{"x": "y"}\n', encoding="utf-8")
    with pytest.raises(StudioError, match="no known format"):
        window(tmp_path, source="a.jsonl")
