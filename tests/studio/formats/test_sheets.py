"""Spreadsheets: values, dates, formulas, several sheets, and workbooks that cannot be read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from studio.data.reading.reader import read_rows
from studio.data.reading.source import ReadOptions
from studio.data.window import open_window
from studio.errors import StudioError
from studio.node_settings.dataset import DatasetSettings
from tests.studio.formats.everyday import (
    DATE,
    DURATION,
    MOMENT,
    ROWS,
    VARIANTS,
    Cell,
    everywhere,
    problems,
    table_of,
    write_xlsx,
)


def test_a_workbook_is_read_everywhere(tmp_path: Path) -> None:
    write_xlsx(tmp_path / "a.xlsx", {"Data": table_of(ROWS), "Empty": []})
    found = everywhere(tmp_path, source="a.xlsx")
    assert found.rows == ROWS
    assert found.lines == [2, 3, 4, 5, 6, 7]
    assert found.warnings == []


def values(path: Path, **options: Any) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    notes: list[str] = []
    rows = list(read_rows(path, ReadOptions(note=notes.append, **options)))
    return [r.data for r in rows], [r.line for r in rows], notes


CELLS = [
    (Cell(45352, style=DATE), "2024-03-01"),
    (Cell(45352.5, style=MOMENT), "2024-03-01T12:00:00"),
    (Cell(45352, style=MOMENT), "2024-03-01"),
    (Cell(1.5, style=DURATION), "1 day, 12:00:00"),
    (Cell(3, formula="1+2"), 3),
    (Cell("sum: 3", formula='"sum: "&3'), "sum: 3"),
    (1, 1),
    (1.5, 1.5),
    (12345678901, 12345678901),
    (True, True),
    ("text & <more>", "text & <more>"),
    ("0012", "0012"),
    (None, ""),
]


@pytest.mark.parametrize(("cell", "wanted"), CELLS)
def test_a_cell_becomes_plain(cell: Any, wanted: Any, tmp_path: Path) -> None:
    write_xlsx(tmp_path / "a.xlsx", {"S": [["name", "x"], ["a", cell]]})
    (row,) = values(tmp_path / "a.xlsx")[0]
    assert (row["x"], type(row["x"])) == (wanted, type(wanted))
    json.dumps(row, allow_nan=False)


def test_what_a_spreadsheet_adds_is_left_out_and_noted(tmp_path: Path) -> None:
    table = [
        [None, None, None, None],
        [None, "prompt", "completion", None, " "],
        [0, "a", "b", None],
        [1, None, None, None],
        [None, None, None, None],
        [2, "c", "d", None],
        [None, " ", ""],
    ]
    write_xlsx(tmp_path / "a.xlsx", {"S": table})
    rows, lines, notes = values(tmp_path / "a.xlsx")
    assert rows == [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    assert lines == [3, 6]
    assert notes == [
        "a.xlsx: the first column counts the rows and has no name, as pandas writes the index; ignored.",
        "a.xlsx: 2 columns without a name and without values ignored.",
        "a.xlsx: 2 empty rows ignored.",
    ]


def test_several_sheets_are_named_and_one_can_be_chosen(tmp_path: Path) -> None:
    other = [{"prompt": "other", "completion": "sheet"}] * 3
    sheets = {"Empty": [], "Data": table_of(ROWS), "More": table_of(other), "Notes": [["n"], ["x"]]}
    write_xlsx(tmp_path / "a.xlsx", sheets)
    found = everywhere(tmp_path, source="a.xlsx")
    assert found.rows == ROWS
    assert found.warnings == ["other_tables"]
    assert "the sheet “Data” is read; “More”, “Notes” are not." in found.notices
    chosen = everywhere(tmp_path, source="a.xlsx", table="More")
    assert (chosen.rows, chosen.warnings) == (other, [])
    (wrong,) = problems(tmp_path, source="a.xlsx", table="more")
    assert (wrong.code, wrong.field) == ("no_table", "table")
    assert "“Empty”, “Data”, “More”, “Notes”" in wrong.sentence


def test_a_hidden_sheet_is_read_only_without_another(tmp_path: Path) -> None:
    sheets = {"Old": table_of(ROWS[:1]), "Data": table_of(ROWS)}
    write_xlsx(tmp_path / "a.xlsx", sheets, hidden=["Old"])
    assert everywhere(tmp_path, source="a.xlsx").rows == ROWS
    write_xlsx(tmp_path / "b.xlsx", {"Old": table_of(ROWS)}, hidden=["Old"])
    assert everywhere(tmp_path, source="b.xlsx").rows == ROWS


def test_a_number_is_an_answer(tmp_path: Path) -> None:
    table = [["question", "answer"], ["How many?", 3], ["When?", Cell(45352, style=DATE)]]
    write_xlsx(tmp_path / "a.xlsx", {"S": table})
    settings = DatasetSettings(source="a.xlsx")
    with open_window(settings, tmp_path, VARIANTS["format"]) as window:
        rows = [window.chosen.convert(r, r.path)["messages"] for r in window.rows(1, 2)]
    assert [messages[-1]["content"] for messages in rows] == ["3", "2024-03-01"]


def bomb(path: Path) -> None:
    write_xlsx(path, {"S": table_of(ROWS)})
    with (
        zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file,
        file.open("x.xml", "w") as member,
    ):
        for _ in range(110):
            member.write(b" " * 1_000_000)


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (lambda p: p.write_bytes(b"PK\x03\x04junk"), "corrupt_sheet", "is not a valid spreadsheet"),
        (lambda p: p.write_bytes(b"text"), "corrupt_sheet", "is not a valid spreadsheet"),
        (lambda p: write_xlsx(p, {"S": []}), "no_rows", "no rows"),
        (lambda p: write_xlsx(p, {"S": [["a", "b"]]}), "no_rows", "no rows"),
        (lambda p: write_xlsx(p, {"S": [["a", "a"], [1, 2]]}), "bad_header", "twice"),
        (lambda p: write_xlsx(p, {"S": [["a", None], ["x", "y"]]}), "bad_header", "without a name"),
        (bomb, "zip_bomb", "times its size"),
    ],
)
def test_a_workbook_that_cannot_be_read_is_refused(
    make: Any, code: str, words: str, tmp_path: Path
) -> None:
    make(tmp_path / "a.xlsx")
    (found,) = problems(tmp_path, source="a.xlsx")
    assert found.code == code
    assert words in found.sentence
    assert "a.xlsx" in found.sentence
    with pytest.raises(StudioError, match=words):
        open_window(DatasetSettings(source="a.xlsx"), tmp_path, VARIANTS["format"])


def test_any_row_of_a_large_sheet(tmp_path: Path) -> None:
    rows = [{"prompt": f"question {n}", "completion": f"answer {n}"} for n in range(5000)]
    write_xlsx(tmp_path / "a.xlsx", {"S": table_of(rows)})
    with open_window(DatasetSettings(source="a.xlsx"), tmp_path, VARIANTS["format"]) as window:
        assert window.count() == 5000
        assert [r.data for r in window.rows(4990, 5000)] == rows[4989:]
        assert [r.line for r in window.rows(17, 18)] == [18, 19]
