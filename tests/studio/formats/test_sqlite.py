"""SQLite databases: one table is read, several ask for a choice."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from studio.data.window import open_window
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from tests.studio.formats.everyday import ROWS, VARIANTS, everywhere, problems


def write(path: Path, tables: Mapping[str, Sequence[Mapping[str, Any]]], *more: str) -> Path:
    with closing(sqlite3.connect(path)) as database:
        for table, rows in tables.items():
            name = table.replace('"', '""')
            names = list(rows[0]) if rows else ["a", "b"]
            columns = ", ".join(f'"{n}"' for n in names)
            database.execute(f'CREATE TABLE "{name}" ({columns})')
            marks = ", ".join("?" * len(names))
            database.executemany(
                f'INSERT INTO "{name}" VALUES ({marks})', [tuple(r.values()) for r in rows]
            )
        for statement in more:
            database.execute(statement)
        database.commit()
    return path


@pytest.mark.parametrize("name", ["a.db", "a.sqlite", "a.sqlite3"])
def test_a_table_is_read_everywhere(name: str, tmp_path: Path) -> None:
    write(tmp_path / name, {"pairs": ROWS})
    found = everywhere(tmp_path, source=name)
    assert (found.rows, found.lines, found.warnings) == (ROWS, [1, 2, 3, 4, 5, 6], [])


def test_several_tables_ask_for_a_choice(tmp_path: Path) -> None:
    other = [{"prompt": "other", "completion": "table"}] * 3
    write(tmp_path / "a.db", {"pairs": ROWS, 'odd "name"': other, "empty": []})
    (found,) = problems(tmp_path, source="a.db")
    assert (found.code, found.field) == ("several_tables", "table")
    assert '“odd "name"”, “pairs”' in found.sentence
    assert "Sheet or table" in found.hint
    assert everywhere(tmp_path, source="a.db", table="pairs").rows == ROWS
    assert everywhere(tmp_path, source="a.db", table='odd "name"').rows == other
    (wrong,) = problems(tmp_path, source="a.db", table="pair")
    assert (wrong.code, wrong.field) == ("no_table", "table")


def test_a_view_can_be_chosen(tmp_path: Path) -> None:
    view = "CREATE VIEW some AS SELECT prompt, completion FROM pairs LIMIT 3"
    write(tmp_path / "a.db", {"pairs": ROWS}, view)
    assert everywhere(tmp_path, source="a.db").rows == ROWS
    assert everywhere(tmp_path, source="a.db", table="some").rows == ROWS[:3]


def test_the_only_table_with_rows_is_read(tmp_path: Path) -> None:
    write(tmp_path / "a.db", {"empty": [], "pairs": ROWS, "more": []})
    assert everywhere(tmp_path, source="a.db").rows == ROWS


def test_a_table_without_row_numbers(tmp_path: Path) -> None:
    make = 'CREATE TABLE t ("prompt" TEXT PRIMARY KEY, "completion" TEXT) WITHOUT ROWID'
    fill = "INSERT INTO t VALUES " + ", ".join(f"('p{n}', 'c{n}')" for n in range(5))
    write(tmp_path / "a.db", {}, make, fill)
    assert everywhere(tmp_path, source="a.db").rows == [
        {"prompt": f"p{n}", "completion": f"c{n}"} for n in range(5)
    ]


def test_values_that_are_not_text(tmp_path: Path) -> None:
    rows = [{"prompt": "How many?", "completion": 3, "raw": b"\x00\xff", "score": None}] * 2
    write(tmp_path / "a.db", {"t": rows})
    assert everywhere(tmp_path, source="a.db").rows == rows
    settings = {"format": "prompt_completion", "format_settings": {"completion_column": "raw"}}
    (found,) = problems(tmp_path, source="a.db", **settings)
    assert "bytes in column “raw”" in found.sentence


def test_text_that_is_not_utf_8_is_refused_where_it_stands(tmp_path: Path) -> None:
    fill = "INSERT INTO t VALUES (cast(x'636166e9' AS TEXT), 'b')"
    write(tmp_path / "a.db", {"t": [{"prompt": "a", "completion": "b"}]}, fill)
    settings = DatasetSettings(source="a.db")
    with open_window(settings, tmp_path, VARIANTS["format"]) as window:
        first, second = window.rows(1, 2)
        assert window.chosen.convert(first, first.path)
        with pytest.raises(StudioError, match="half a character") as refused:
            window.chosen.convert(second, second.path)
    assert refused.value.line == 2


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"text that is no database" * 10, "corrupt_sqlite"),
        (b"SQLite format 3\x00" + b"\xff" * 4096, "corrupt_sqlite"),
        (b"", "empty_file"),
    ],
)
def test_what_is_not_a_database_is_refused(content: bytes, code: str, tmp_path: Path) -> None:
    (tmp_path / "a.db").write_bytes(content)
    (found,) = problems(tmp_path, source="a.db")
    assert found.code == code
    assert "a.db" in found.sentence


def test_a_damaged_database_is_refused(tmp_path: Path) -> None:
    rows = [{"prompt": "p" * 400 + str(n), "completion": "c" * 400} for n in range(300)]
    path = write(tmp_path / "a.db", {"t": rows})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2 // 4096 * 4096
    content[middle : middle + 8192] = b"\xee" * 8192
    path.write_bytes(bytes(content))
    (found,) = problems(tmp_path, source="a.db")
    assert found.code == "corrupt_sqlite"
    assert "a.db is not a valid SQLite database" in found.sentence


def test_any_row_of_a_large_table(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(20_000)]
    write(tmp_path / "a.db", {"t": rows})
    with open_window(DatasetSettings(source="a.db"), tmp_path, VARIANTS["format"]) as window:
        assert window.count() == 20_000
        assert [r.data for r in window.rows(19_990, 20_000)] == rows[19_989:]
