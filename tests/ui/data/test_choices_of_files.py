"""What a Dataset node can read of a folder or a file, chosen from a list in its form."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QTimer
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLineEdit, QToolButton
from pytestqt.qtbot import QtBot

from studio.data import sources
from studio.data.reading import reader
from studio.graph.edits import set_setting
from studio.node_settings.dataset import DatasetSettings
from tests.studio.formats.everyday import table_of, write_xlsx
from tests.studio.formats.test_sqlite import write as write_sqlite
from tests.ui.data.conftest import LEFT, OpenSession, chats
from ui.inspector.editors.plain import NONE_FOUND
from ui.window.session import Session

ROW = '{"prompt": "say", "completion": "it is said"}\n'


def entries_of(session: Session, field: str, picked: str = "") -> list[str]:
    """Click the button beside a field; the entries of its list, of which one may be clicked."""
    session.window.inspector.focus_field("data", field)
    button = session.window.inspector.findChild(QToolButton, f"choose:{field}")
    found: list[str] = []

    def look() -> None:
        menu = button.menu()
        found.extend(a.text() for a in menu.actions())
        chosen = next((a for a in menu.actions() if a.text() == picked), None)
        if chosen is None:
            menu.close()
        else:
            QTest.mouseClick(menu, LEFT, pos=menu.actionGeometry(chosen).center())

    QTimer.singleShot(300, look)
    QTest.mouseClick(button, LEFT)  # returns when the list is closed
    return found


def value(session: Session, field: str) -> Any:
    """The value in the graph, and in its field."""
    line = session.window.inspector.findChild(QLineEdit, f"field:{field}")
    setting = session.document.graph.node("data").settings.get(field)
    assert line.text() == (setting or "")
    return setting


def use(session: Session, name: str) -> None:
    edited = set_setting(session.document.graph, "data", "source", name)
    session.document.edit(edited, "Change")


def problems(session: Session) -> list[str]:
    return [p.code for p in session.problems.check() if p.node == "data"]


def test_a_configuration_of_a_folder_is_clicked_or_typed(
    open_session: OpenSession, qtbot: QtBot
) -> None:
    session = open_session(chats(3))
    for name in ("en", "de&at"):
        folder = session.document.project_dir / "set" / name
        folder.mkdir(parents=True)
        (folder / "train.jsonl").write_text(ROW * 5, encoding="utf-8")
    use(session, "set")
    assert problems(session) == ["several_configurations"]
    session.window.canvas.select(("data",))
    assert entries_of(session, "hub_config", "de&&at") == ["de&&at", "en", "All (*)"]
    assert value(session, "hub_config") == "de&at"
    assert problems(session) == []
    assert entries_of(session, "hub_config", "All (*)") == ["de&&at", "en", "All (*)"]
    assert value(session, "hub_config") == "*"
    session.document.undo()
    assert value(session, "hub_config") == "de&at"

    line = session.window.inspector.findChild(QLineEdit, "field:hub_config")
    line.selectAll()
    QTest.keyClicks(line, "en")
    assert value(session, "hub_config") == "en"
    assert problems(session) == []
    use(session, "rows.jsonl")
    assert entries_of(session, "hub_config") == [NONE_FOUND]


def test_a_split_of_a_dataset_card_is_clicked(open_session: OpenSession, qtbot: QtBot) -> None:
    session = open_session(chats(3))
    folder = session.document.project_dir / "set"
    folder.mkdir()
    files = "".join(f"  - split: {s}\n    path: {s}.jsonl\n" for s in ("train_a", "train_b"))
    (folder / "README.md").write_text(
        f"---\nconfigs:\n- config_name: x\n  data_files:\n{files}---\n", encoding="utf-8"
    )
    for name in ("train_a", "train_b"):
        (folder / f"{name}.jsonl").write_text(ROW * 5, encoding="utf-8")
    use(session, "set")
    assert problems(session) == ["several_splits"]
    session.window.canvas.select(("data",))
    assert entries_of(session, "hub_split", "train_b") == ["train_a", "train_b"]
    assert problems(session) == []


TABLES = {n: [{"prompt": "a", "completion": n}] * 4 for n in ("first", "second")}


def database(path: Path) -> None:
    write_sqlite(path, TABLES)


def workbook(path: Path) -> None:
    write_xlsx(path, {name: table_of(rows) for name, rows in TABLES.items()})


@pytest.mark.parametrize(
    ("name", "make", "code"),
    [("rows.sqlite", database, "several_tables"), ("rows.xlsx", workbook, "other_tables")],
)
def test_a_table_or_sheet_is_clicked(
    open_session: OpenSession, qtbot: QtBot, name: str, make: Any, code: str
) -> None:
    session = open_session(chats(3))
    make(session.document.project_dir / name)
    use(session, name)
    assert problems(session) == [code]
    session.window.canvas.select(("data",))
    assert entries_of(session, "table", "second") == ["first", "second"]
    assert value(session, "table") == "second"
    assert problems(session) == []


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows.txt", "page.html"])
def test_a_file_without_tables_is_not_read_for_its_choices(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be large, and the list opens at once."""
    (tmp_path / name).write_text(ROW, encoding="utf-8")
    read: list[Path] = []
    monkeypatch.setattr(reader, "read_rows", lambda path, *options: iter(read.append(path) or ()))
    assert sources.choices_of(DatasetSettings(source=name), tmp_path, "table") == ()
    assert read == []


def test_choices_inside_an_archive(tmp_path: Path) -> None:
    workbook(tmp_path / "book.xlsx")
    database(tmp_path / "base.db")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "book.xlsx", "data/book.xlsx")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name in ("de/train.jsonl", "en/train.jsonl", "en/test.jsonl"):
            archive.writestr(name, ROW)

    def choices(source: str, field: str) -> tuple[str, ...]:
        return sources.choices_of(DatasetSettings(source=source), tmp_path, field)

    assert choices("a.zip", "table") == ("first", "second")
    assert choices("base.db", "table") == ("first", "second")
    assert choices("b.zip", "hub_config") == ("de", "en", "*")
    assert choices("b.zip", "table") == choices("gone.xlsx", "table") == choices("", "table") == ()
