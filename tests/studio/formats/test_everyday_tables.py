"""Tables as pandas, R and Excel write them: index columns, empty columns and empty rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.data.reading.reader import read_rows
from studio.data.reading.source import ReadOptions
from studio.data.window import open_window
from studio.errors import StudioError
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings

FORMATS = load_registry().variants["format"]
PAIRS = [{"prompt": f"What is {n}?", "completion": f"It is {n}."} for n in range(3)]


def read(path: Path) -> tuple[list[dict[str, Any]], list[int], list[str]]:
    """The rows, their lines, and the notes; the window shows the same rows by number."""
    notes: list[str] = []
    rows = list(read_rows(path, ReadOptions(note=notes.append)))
    with open_window(DatasetSettings(source=str(path)), path.parent, FORMATS) as window:
        shown = window.rows(1, 100)
        assert [(r.line, r.data) for r in shown] == [(r.line, r.data) for r in rows]
        for number in range(1, len(rows) + 1):
            assert [r.data for r in window.rows(number, number)] == [rows[number - 1].data]
    return [r.data for r in rows], [r.line for r in rows], notes


INDEX = "counts the rows and has no name, as pandas writes the index; ignored."
LEFT_OUT = [
    pytest.param(
        ",prompt,completion\n" + "".join(f"{n},What is {n}?,It is {n}.\n" for n in range(3)),
        [2, 3, 4],
        [f"a.csv: the first column {INDEX}"],
        id="pandas",
    ),
    pytest.param(
        '"","prompt","completion"\n'
        + "".join(f'"{n + 1}","What is {n}?","It is {n}."\n' for n in range(3)),
        [2, 3, 4],
        [f"a.csv: the first column {INDEX}"],
        id="R",
    ),
    pytest.param(
        ",prompt,completion\n"
        + "".join(f"{9 - 4 * n},What is {n}?,It is {n}.\n" for n in range(3)),
        [2, 3, 4],
        [f"a.csv: the first column {INDEX}"],
        id="a shuffled data frame",
    ),
    pytest.param(
        ",,prompt,completion\n" + "".join(f"0,{n},What is {n}?,It is {n}.\n" for n in range(3)),
        [2, 3, 4],
        [
            "a.csv: the first 2 columns count the rows and have no name, as pandas writes the index; "
            "ignored."
        ],
        id="two levels of an index",
    ),
    pytest.param(
        ";prompt;completion;;\r\n"
        + "".join(f"{n};What is {n}?;It is {n}.;;\r\n" for n in range(3))
        + "3;;;;\r\n;;;;\r\n",
        [2, 3, 4],
        [
            f"a.csv: the first column {INDEX}",
            "a.csv: 2 columns without a name and without values ignored.",
            "a.csv: 2 empty rows ignored.",
        ],
        id="an index and what Excel adds",
    ),
    pytest.param(
        "prompt,completion,,\nWhat is 0?,It is 0.,,\n,,,\nWhat is 1?,It is 1.\nWhat is 2?,It is 2.,, \n"
        + ",,,\n" * 5,
        [2, 4, 5],
        [
            "a.csv: 2 columns without a name and without values ignored.",
            "a.csv: 6 empty rows ignored.",
        ],
        id="Excel",
    ),
    pytest.param(
        "prompt,,completion\nWhat is 0?,,It is 0.\nWhat is 1?,,It is 1.\nWhat is 2?,,It is 2.\n",
        [2, 3, 4],
        ["a.csv: 1 column without a name and without values ignored."],
        id="an empty column between",
    ),
    pytest.param(
        ",\n\n,,\nprompt,completion\nWhat is 0?,It is 0.,,,\nWhat is 1?,It is 1.,\nWhat is 2?,It is 2.\n",
        [5, 6, 7],
        [],
        id="empty rows before the names, separators behind",
    ),
    pytest.param(
        'prompt,completion\n"",""\nWhat is 0?,It is 0.\n" ",\nWhat is 1?,It is 1.\nWhat is 2?,It is 2.\n',
        [3, 5, 6],
        ["a.csv: 2 empty rows ignored."],
        id="empty values in quotes",
    ),
]


@pytest.mark.parametrize(("text", "lines", "notes"), LEFT_OUT)
def test_what_a_program_adds_is_left_out_and_noted(
    text: str, lines: list[int], notes: list[str], tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert read(tmp_path / "a.csv") == (PAIRS, lines, notes)


def test_a_data_frame_of_pandas(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(PAIRS)
    frame.to_csv(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv")[0] == PAIRS
    frame.to_csv(tmp_path / "b.tsv", sep="\t")
    assert read(tmp_path / "b.tsv")[0] == PAIRS


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("text,\na,b\n", 1, "has a column without a name (column 2)"),
        (",text\nfirst,a\nsecond,b\n", 1, "has a column without a name (column 1)"),
        (",,text\n0,blue,a\n1,red,b\n", 1, "has a column without a name (column 2)"),
        (",text\n0.5,a\n", 1, "has a column without a name (column 1)"),
        ("text,\n" + "a,\n" * 30 + "b,late\n", 32, "has a value in column 2, which has no name"),
        (",text\n" + "1,a\n" * 30 + "x,b\n", 32, "has a value in column 1, which has no name"),
        ("text,n\na,1,,more\n", 2, "has 4 values"),
    ],
)
def test_a_value_without_a_column_name_is_refused(
    text: str, line: int, words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    with pytest.raises(StudioError) as refused:
        list(read_rows(tmp_path / "a.csv"))
    assert words in refused.value.sentence
    assert refused.value.line == line


def test_a_row_with_a_value_in_a_left_out_column_can_be_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,\n" + "a,\n" * 30 + "b,late\nc,\n", encoding="utf-8")
    with open_window(
        DatasetSettings(source="a.csv", on_bad_rows="skip"), tmp_path, FORMATS
    ) as window:
        found = window.rows(30, 32)
    assert [r.data.get("text") for r in found] == ["a", None, "c"]
    assert found[1].error is not None
    assert found[1].error.line == 32
