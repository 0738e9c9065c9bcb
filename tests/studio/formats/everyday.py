"""Files of everyday programs for the tests: how they are written, and that every part reads them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from studio.data.window import open_window
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.nodes.dataset import check
from studio.training.data.rows import prepare_rows
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_report import report_on

VARIANTS = load_registry().variants
ROWS = [{"prompt": f"What is {n}?", "completion": f"It is number {n}."} for n in range(6)]


@dataclass(frozen=True)
class Everywhere:
    """What the parts of the program say about a data source."""

    rows: list[dict[str, Any]]
    lines: list[int]
    warnings: list[str]
    notices: str


def problems(root: Path, **settings: Any) -> list[Any]:
    """The problems of the check."""
    context = CheckContext("data", "Dataset", root, variants=VARIANTS)
    return list(check(DatasetSettings(**settings), context))


def everywhere(root: Path, **settings: Any) -> Everywhere:
    """Reads a source in the check, the window, the run and the report, which must agree."""
    settings = {"split_mode": "none", **settings}
    found = problems(root, **settings)
    assert [p.sentence for p in found if p.blocks] == []
    with open_window(DatasetSettings(**settings), root, VARIANTS["format"]) as window:
        count = window.count()
        rows = window.rows(1, count)
        assert [r.error for r in rows] == [None] * count
        for number in range(1, count + 1, max(1, count // 7)):
            assert [r.data for r in window.rows(number, number + 2)] == [
                r.data for r in rows[number - 1 : number + 2]
            ]
    told = Recorder()
    context = make_context(root / f"run-{len(list(root.iterdir()))}", told)
    context.project_dir = root
    value = prepare_rows(context, DatasetSettings(**settings))
    assert value.train_rows == count
    source = str(root / settings.pop("source")) if ";" not in settings["source"] else ""
    if source:
        assert report_on(Path(source), **settings).rows == count
    notices = " ".join(str(e.get("sentence")) for e in told.named("Notice"))
    return Everywhere(
        [r.data for r in rows], [r.line for r in rows], [p.code for p in found], notices
    )


@dataclass(frozen=True)
class Cell:
    """A cell that is not plain: a formula with its stored value, or a date as Excel counts days."""

    value: Any
    formula: str = ""
    style: int = 0


DATE, MOMENT, DURATION = 1, 2, 3  # styles of cells


def write_xlsx(
    path: Path, sheets: Mapping[str, Sequence[Sequence[Any]]], hidden: Sequence[str] = ()
) -> Path:
    """A workbook, as Excel stores it."""
    main = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    package = "http://schemas.openxmlformats.org/package/2006"
    states = {name: ' state="hidden"' if name in hidden else "" for name in sheets}
    listed = "".join(
        f'<sheet name="{escape(name)}" sheetId="{n}" r:id="rId{n}"{states[name]}/>'
        for n, name in enumerate(sheets, start=1)
    )
    formats = "".join(f'<xf numFmtId="{n}" applyNumberFormat="1"/>' for n in (0, 14, 22, 46))
    links = "".join(
        f'<Relationship Id="rId{n}" Type="{office}/worksheet" Target="worksheets/sheet{n}.xml"/>'
        for n in range(1, len(sheets) + 1)
    )
    links += f'<Relationship Id="rId99" Type="{office}/styles" Target="styles.xml"/>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("[Content_Types].xml", f'<Types xmlns="{package}/content-types"/>')
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{package}/relationships"><Relationship Id="rId1" '
            f'Type="{office}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        )
        file.writestr(
            "xl/workbook.xml",
            f'<workbook {main} xmlns:r="{office}"><sheets>{listed}</sheets></workbook>',
        )
        file.writestr(
            "xl/_rels/workbook.xml.rels",
            f'<Relationships xmlns="{package}/relationships">{links}</Relationships>',
        )
        file.writestr(
            "xl/styles.xml", f"<styleSheet {main}><cellXfs>{formats}</cellXfs></styleSheet>"
        )
        for number, rows in enumerate(sheets.values(), start=1):
            body = "".join(
                f'<row r="{r}">{"".join(_cell(c, r, v) for c, v in enumerate(row))}</row>'
                for r, row in enumerate(rows, start=1)
            )
            file.writestr(
                f"xl/worksheets/sheet{number}.xml",
                f"<worksheet {main}><sheetData>{body}</sheetData></worksheet>",
            )
    return path


def _cell(column: int, row: int, value: Any) -> str:
    if value is None:
        return ""
    cell = value if isinstance(value, Cell) else Cell(value)
    place = f'r="{chr(65 + column)}{row}" s="{cell.style}"'
    formula = f"<f>{escape(cell.formula)}</f>" if cell.formula else ""
    if isinstance(cell.value, bool):
        return f'<c {place} t="b">{formula}<v>{int(cell.value)}</v></c>'
    if isinstance(cell.value, str):
        if formula:
            return f'<c {place} t="str">{formula}<v>{escape(cell.value)}</v></c>'
        return f'<c {place} t="inlineStr"><is><t>{escape(cell.value)}</t></is></c>'
    return f"<c {place}>{formula}<v>{cell.value}</v></c>"


def table_of(rows: Sequence[Mapping[str, Any]]) -> list[list[Any]]:
    """Rows as the records of a table with their names first."""
    return [list(rows[0]), *(list(row.values()) for row in rows)]
