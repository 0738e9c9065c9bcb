"""Reading files of every kind: the same rows, with the lines where they really stand."""

from __future__ import annotations

import csv
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.data.reading.reader import read_rows

ROWS: list[dict[str, Any]] = [
    {"prompt": "Grüße, 雪?", "completion": "two\nlines"},
    {"prompt": 'a "quoted", word', "completion": "b"},
    {"prompt": "c", "completion": "d"},
]


def write_jsonl(path: Path) -> None:
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in ROWS), encoding="utf-8")


def write_json(path: Path) -> None:
    path.write_text(json.dumps(ROWS, indent=2, ensure_ascii=False), "utf-8", newline="\n")


def write_csv(path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"])
        writer.writeheader()
        writer.writerows(ROWS)


def write_parquet(path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(ROWS), path)


KINDS: dict[str, tuple[Callable[[Path], None], list[int]]] = {
    "jsonl": (write_jsonl, [1, 2, 3]),
    "json": (write_json, [2, 6, 10]),
    "csv": (write_csv, [2, 4, 5]),
    "parquet": (write_parquet, [1, 2, 3]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_rows_and_true_lines(kind: str, tmp_path: Path) -> None:
    write, lines = KINDS[kind]
    path = tmp_path / f"rows.{kind}"
    write(path)
    rows = list(read_rows(path))
    assert [r.data for r in rows] == ROWS
    assert [r.line for r in rows] == lines
    assert 0 <= path.stat().st_size - rows[-1].offset <= 2  # what closes a JSON list


def test_byte_order_mark_blank_lines_and_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n\r\n  \r\n{"text": "b"}\r\n')
    assert [(r.line, r.data["text"]) for r in read_rows(path)] == [(1, "a"), (4, "b")]


def test_an_object_that_holds_one_list(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(
        '{"version": 1,\n "data": [\n {"text": "a"},\n {"text": "b"}],\n "x": {"y": 1}}',
        encoding="utf-8",
    )
    assert [(r.line, r.data["text"]) for r in read_rows(path)] == [(3, "a"), (4, "b")]


def test_json_lines_that_are_called_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('{"text": "a"}\n{"text": "b"}\n', encoding="utf-8")
    assert [r.data["text"] for r in read_rows(path)] == ["a", "b"]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators(mark: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"prompt{mark}completion\na, b{mark}c\n", encoding="utf-8")
    assert [r.data for r in read_rows(path)] == [{"prompt": "a, b", "completion": "c"}]


def test_a_value_larger_than_the_buffer(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    long = "ü" * 300_000
    path.write_text(
        json.dumps([{"text": long}, {"text": "b"}], ensure_ascii=False), encoding="utf-8"
    )
    assert [r.data["text"] for r in read_rows(path)] == [long, "b"]


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
def test_memory_stays_small(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"rows.{kind}"
    row = {"prompt": "p" * 400, "completion": "c" * 400}
    count = 20_000  # about 17 MB
    with path.open("w", encoding="utf-8") as file:
        if kind == "csv":
            file.write("prompt,completion\n")
        file.write("[" if kind == "json" else "")
        for i in range(count):
            line = ",".join(row.values()) if kind == "csv" else json.dumps(row)
            file.write(line + ("," if kind == "json" and i < count - 1 else "") + "\n")
        file.write("]" if kind == "json" else "")
    tracemalloc.start()
    assert sum(1 for _ in read_rows(path)) == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 3e6


def test_a_quick_look_reads_only_the_start(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "a"}\n' * 60 + "broken\n", encoding="utf-8")
    assert len(list(read_rows(path, quick=True))) == 50


def test_an_error_said_twice_is_the_same_error(tmp_path: Path) -> None:
    from studio.data.check import first_rows
    from studio.errors import StudioError

    path = tmp_path / "rows.jsonl"
    path.write_text("broken\n", encoding="utf-8")
    said = []
    for _ in range(2):
        with pytest.raises(StudioError) as caught:
            first_rows(path)
        said.append(str(caught.value))
        caught.value.sentence = f"Dataset: {caught.value.sentence}"
        said.append(caught.value.sentence)
    assert said[0] == said[2]
    assert said[1] == said[3] == f"Dataset: {said[0]}"
