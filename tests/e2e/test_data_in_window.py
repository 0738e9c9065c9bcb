"""Import a file with the usual dirt, read the report, mend it, run: all in the real window.

The data host and the run host are real processes; only the model is tiny.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDropEvent
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton, QWidget
from pytestqt.qtbot import QtBot

from studio.runs.folder import list_runs
from tests.e2e.studio_cli import write_project, write_rows
from tests.e2e.window import LEFT, Open, press
from tests.tiny import make_tiny_model
from ui.data.tabs import REPORT, ROWS, TOKENS
from ui.window.session import Session

MAX_LENGTH = 96


@pytest.fixture
def session(open_window: Open, tmp_path: Path) -> Session:
    """The program's window on a project with a tiny model and clean rows."""
    make_tiny_model(tmp_path / "model")
    rows = write_rows(tmp_path / "clean.jsonl", 8)
    train = {"max_steps": 2, "max_length": MAX_LENGTH, "eval_steps": 2}
    project = write_project(tmp_path / "talk.studio", "model", rows, train=train)
    made = open_window(project)
    made.window.canvas.fit_all()
    return made


def dirty_file(folder: Path) -> Path:
    """Forty chats: one without an answer's text, two duplicates, one answer that is far too long."""
    rows = [_chat(f"Say {n}", f"It is {n}.") for n in range(40)]
    rows[6] = _chat("Say nothing", "")
    rows[20] = rows[2]
    rows[21] = rows[3]
    rows[30] = _chat("Say much", "word " * 30)
    path = folder / "dirty.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def _chat(asked: str, answer: str) -> dict[str, object]:
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
    return {"messages": turns}


def drop_on(session: Session, node: str, path: Path) -> None:
    """Drop a file on a node, as the file manager does."""
    canvas = session.window.canvas
    place = canvas.node_rect_in_view(node).center()
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    event = QDropEvent(
        QPointF(place), Qt.DropAction.CopyAction, data, LEFT, Qt.KeyboardModifier.NoModifier
    )
    canvas.dropEvent(event)
    assert event.isAccepted()


def click_tab(session: Session, tab: str) -> QWidget:
    """Click one of the inspector's tabs; returns its page."""
    bar = session.tabs.bar
    at = [bar.tabData(i) for i in range(bar.count())].index(tab)
    QTest.mouseClick(bar, LEFT, Qt.KeyboardModifier.NoModifier, bar.tabRect(at).center())
    page = session.tabs.page(tab)
    assert page is not None
    assert page.isVisible()
    return page


def reported(session: Session, **severities: str | None) -> Callable[[], bool]:
    """Whether a finished report about the data of now has these findings, so severe; ``None``: not."""

    def done() -> bool:
        data = session.data
        if data.report is None or data.stale or data.reporting or not data.report.complete:
            return False
        found = {f.code: f.severity for f in data.report.findings}
        return all(found.get(code) == severity for code, severity in severities.items())

    return done


def press_fix(session: Session, qtbot: QtBot, fix: str, **then: str | None) -> None:
    """Press a Fix button of the report and wait until the report says what it has changed."""
    page = click_tab(session, REPORT)
    button = next(b for b in page.findChildren(QPushButton, f"fix:{fix}") if b.isVisible())
    scroll = button.parentWidget()
    page.view.parentWidget().parentWidget().ensureWidgetVisible(scroll)
    assert button.isEnabled()
    QTest.mouseClick(button, LEFT)
    qtbot.waitUntil(reported(session, **then))


def test_import_report_fix_run(session: Session, qtbot: QtBot, tmp_path: Path) -> None:
    window, document = session.window, session.document
    drop_on(session, "data", dirty_file(tmp_path))
    assert document.graph.node("data").settings["source"] == "dirty.jsonl"
    assert window.canvas.selected_ids() == ("data",)
    assert session.tabs.tab == ROWS
    rows = session.tabs.page(ROWS)
    card = lambda n: rows.findChild(QWidget, f"row-card:{n}")  # noqa: E731
    qtbot.waitUntil(lambda: card(1) is not None)
    assert "Chat messages" in rows.box.reason.text()

    report = click_tab(session, REPORT)
    qtbot.waitUntil(reported(session, duplicate="warning", bad_row="error"))
    assert [p.line for p in report.view.card("bad_row").finding.rows] == [7]
    assert report.view.histogram.isVisible()

    press(session, "run")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    assert not list_runs(session.runs.runs_dir)  # refused: row 7 cannot be read
    window.canvas.select(("data",))

    press_fix(session, qtbot, "skip_bad_rows", bad_row="warning")
    press_fix(session, qtbot, "deduplicate", duplicate=None)
    press_fix(session, qtbot, "raise_max_length", cut_answer=None)
    assert document.graph.node("train").settings["max_length"] > MAX_LENGTH
    assert document.undo_label.startswith("Fix: Raise the maximum length")

    window.canvas.setFocus()
    QTest.keyClick(window.canvas, Qt.Key.Key_Z, Qt.KeyboardModifier.ControlModifier)
    assert document.graph.node("train").settings["max_length"] == MAX_LENGTH
    qtbot.waitUntil(reported(session, cut_answer="warning"))
    links = report.view.card("cut_answer").findChild(QWidget, "row-links")
    QTest.mouseClick(links, LEFT, Qt.KeyboardModifier.NoModifier, QPoint(12, 8))
    tokens = session.tabs.page(TOKENS)
    assert session.tabs.tab == TOKENS
    shown = lambda: tokens.row_view.flow.row is not None  # noqa: E731
    qtbot.waitUntil(lambda: shown() and tokens.row_view.flow.row.number == 31)
    assert tokens.row_view.flow.row.count("cut") > 0
    assert "Truncated" in tokens.row_view.legend.text()
    press_fix(session, qtbot, "raise_max_length", cut_answer=None)

    press(session, "run")
    qtbot.waitUntil(lambda: session.runs.phase == "running")
    qtbot.waitUntil(lambda: session.runs.phase == "idle")
    (run,) = list_runs(session.runs.runs_dir)
    assert run.status() == "completed", "\n".join(window.log.lines()[-20:])
