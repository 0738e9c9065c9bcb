"""Columns of Parquet and Arrow files that are not plain text: JSON, dates, decimals, maps, bytes."""

from __future__ import annotations

import datetime
import decimal
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from studio.data.detect import choose_format
from studio.data.reading.reader import read_rows
from studio.data.reading.source import ReadOptions
from studio.data.window import open_window
from studio.errors import StudioError
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings

FORMATS = load_registry().variants["format"]
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"lat": 1.5, "to": None}}}
CHAT = [
    {"role": "user", "content": "How is it?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "warm"},
    {"role": "assistant", "content": "Warm."},
]


def as_parquet(table: pa.Table, folder: Path) -> Path:
    parquet.write_table(table, folder / "a.parquet", row_group_size=2)
    return folder / "a.parquet"


def as_arrow(table: pa.Table, folder: Path) -> Path:
    with pa.ipc.new_stream(str(folder / "a.arrow"), table.schema) as stream:
        stream.write_table(table, 2)
    return folder / "a.arrow"


WRITERS = pytest.mark.parametrize("write", [as_parquet, as_arrow])
Write = Callable[[pa.Table, Path], Path]


def read(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows and notes of a reading, and the same rows by number."""
    notes: list[str] = []
    rows = [r.data for r in read_rows(path, ReadOptions(note=notes.append))]
    settings = DatasetSettings(source=str(path), format="text")
    with open_window(settings, path.parent, FORMATS) as window:
        assert [r.data for r in window.rows(1, 100)] == rows
    return rows, notes


def messages(path: Path) -> list[Any]:
    rows = list(read_rows(path))
    chosen = choose_format(path, "auto", {}, rows, FORMATS)
    assert chosen.variant.id in ("messages", "sharegpt")
    return [chosen.convert(r, path)["messages"] for r in rows]


@WRITERS
def test_messages_of_the_json_type_of_datasets(write: Write, tmp_path: Path) -> None:
    """As the datasets library writes messages whose keys differ: List(Json())."""
    from datasets import Dataset, Features, Json, List

    made = Dataset.from_dict(
        {"messages": [CHAT, CHAT, CHAT]}, features=Features({"messages": List(Json())})
    )
    path = write(made.data.table, tmp_path)
    assert messages(path) == [CHAT] * 3
    assert read(path)[0] == [{"messages": CHAT}] * 3


@WRITERS
def test_json_that_is_stored_as_text(write: Write, tmp_path: Path) -> None:
    """The same columns written by a program without Arrow's JSON type."""
    from datasets import Features, Json, List, Value

    features = Features({"messages": List(Json()), "meta": {"more": Json(), "n": Value("int64")}})
    notes = json.dumps({"info": {"features": features.to_dict()}})
    table = pa.table(
        {
            "messages": [[json.dumps(m) for m in CHAT]] * 3,
            "meta": [{"more": "[1, null]", "n": 1}] * 3,
        }
    ).replace_schema_metadata({"huggingface": notes})
    path = write(table, tmp_path)
    assert messages(path) == [CHAT] * 3
    assert read(path)[0][0]["meta"] == {"more": [1, None], "n": 1}


@WRITERS
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_messages_as_an_object_of_lists(
    write: Write, keys: tuple[str, str], tmp_path: Path
) -> None:
    """As a Sequence of objects was stored: {"role": [...], "content": [...]}."""
    lists = [{keys[0]: ["user", "assistant"], keys[1]: ["Hi", "Hello"]}] * 2
    path = write(pa.table({"messages": lists}), tmp_path)
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    assert messages(path) == [chat, chat]


@WRITERS
def test_an_object_of_lists_that_is_no_chat_stays(write: Write, tmp_path: Path) -> None:
    answers = [{"text": ["Ada"], "answer_start": [0]}, {"text": [], "answer_start": []}]
    assert read(write(pa.table({"answers": answers}), tmp_path))[0] == [
        {"answers": a} for a in answers
    ]


VALUES: dict[str, tuple[pa.Array, list[Any]]] = {
    "date": (pa.array([datetime.date(2024, 3, 1), None]), ["2024-03-01", None]),
    "timestamp": (
        pa.array([datetime.datetime(2024, 3, 1, 12, 30), None]),
        ["2024-03-01T12:30:00", None],
    ),
    "nanoseconds": (
        pa.array([1_709_296_200_000_000_001, None], pa.timestamp("ns", "UTC")),
        ["2024-03-01T12:30:00.000000001+00:00", None],
    ),
    "time": (pa.array([datetime.time(7, 5), None]), ["07:05:00", None]),
    "decimal": (
        pa.array([decimal.Decimal("12.50"), None], pa.decimal128(20, 2)),
        ["12.50", None],
    ),
    "large decimal": (
        pa.array([decimal.Decimal("0.1234567890123456789"), None], pa.decimal256(40, 19)),
        ["0.1234567890123456789", None],
    ),
    "map": (
        pa.array([[("a", 1), ("b", 2)], None], pa.map_(pa.string(), pa.int64())),
        [{"a": 1, "b": 2}, None],
    ),
    "map of dates": (
        pa.array([[("a", datetime.date(2024, 3, 1))], None], pa.map_(pa.string(), pa.date32())),
        [{"a": "2024-03-01"}, None],
    ),
    "list of dates": (
        pa.array([[datetime.date(2024, 3, 1), None], None], pa.list_(pa.date32())),
        [["2024-03-01", None], None],
    ),
    "struct": (
        pa.array([{"n": decimal.Decimal("1.5"), "t": "x"}, None]),
        [{"n": "1.5", "t": "x"}, None],
    ),
    "category": (pa.array(["red", None]).dictionary_encode(), ["red", None]),
    "large text": (pa.array(["red", None], pa.large_string()), ["red", None]),
    "text view": (pa.array(["red", None], pa.string_view()), ["red", None]),
    "list view": (pa.array([["red"], None], pa.list_view(pa.string())), [["red"], None]),
    "uuid": (
        pa.array([b"\x00" * 16, None], pa.uuid()),
        ["00000000-0000-0000-0000-000000000000", None],
    ),
    "json": (pa.array(['{"a": [1, null]}', None], pa.json_()), [{"a": [1, None]}, None]),
    "bytes": (pa.array([b"\x00\xff", None]), [b"\x00\xff", None]),
}


@WRITERS
@pytest.mark.parametrize("kind", VALUES)
def test_a_value_becomes_plain(kind: str, write: Write, tmp_path: Path) -> None:
    column, wanted = VALUES[kind]
    rows, notes = read(write(pa.table({"x": column}), tmp_path))
    assert [r["x"] for r in rows] == wanted
    assert [type(r["x"]) for r in rows] == [type(w) for w in wanted]
    assert notes == []


@WRITERS
def test_dates_and_decimals_are_answers(write: Write, tmp_path: Path) -> None:
    table = pa.table(
        {
            "prompt": ["When?", "How much?"],
            "completion": pa.array([datetime.date(2024, 3, 1), datetime.date(2025, 1, 2)]),
            "price": pa.array([decimal.Decimal("1.50"), decimal.Decimal("2.00")]),
        }
    )
    path = write(table, tmp_path)
    for column, texts in (
        ("completion", ["2024-03-01", "2025-01-02"]),
        ("price", ["1.50", "2.00"]),
    ):
        own = {"completion_column": column}
        chosen = choose_format(path, "prompt_completion", own, [], FORMATS)
        rows = [chosen.convert(r, path)["messages"] for r in read_rows(path)]
        assert [messages[1]["content"] for messages in rows] == texts


@WRITERS
@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.binary(3)])
def test_bytes_are_refused_where_they_are_used(kind: Any, write: Write, tmp_path: Path) -> None:
    unused = write(pa.table({"text": ["a"], "raw": pa.array([b"abc"], kind)}), tmp_path)
    chosen = choose_format(unused, "auto", {}, list(read_rows(unused)), FORMATS)
    assert [chosen.convert(r, unused)["text"] for r in read_rows(unused)] == ["a"]
    used = write(pa.table({"text": pa.array([b"abc"], kind)}), tmp_path)
    chosen = choose_format(used, "text", {}, [], FORMATS)
    with pytest.raises(StudioError, match="has bytes in column “text”"):
        chosen.convert(next(read_rows(used)), used)


def test_the_index_of_a_data_frame_is_left_out(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"text": ["a", "b", "c"]}, index=[5, 2, 9])
    frame.to_parquet(tmp_path / "a.parquet")
    rows, notes = read(tmp_path / "a.parquet")
    assert rows == [{"text": "a"}, {"text": "b"}, {"text": "c"}]
    assert notes == [
        "a.parquet: the column __index_level_0__, the index of a pandas data frame, was left out."
    ]
    frame.rename_axis("id").to_parquet(tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet")[0][0] == {"text": "a", "id": 5}
