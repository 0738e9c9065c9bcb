"""The program's window for the end-to-end tests: opened as a user opens it, used with mouse and keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from studio.runs.folder import list_runs
from ui import app as program
from ui.window.session import Session
from workers.run_thread import detach_all
from workers.task import wait_for_tasks

LEFT = Qt.MouseButton.LeftButton
Open = Callable[[Path | None], Session]


@contextmanager
def windows(qtbot: QtBot, qapp: QApplication) -> Iterator[Open]:
    """Gives what opens a window on a project; at the end all are closed, and their runs stopped."""
    opened: list[Session] = []

    def open_window(project: Path | None) -> Session:
        session = program.open_session(qapp, project)
        opened.append(session)
        session.window.resize(1280, 800)
        qtbot.waitExposed(session.window)
        qtbot.waitUntil(lambda: session.window.monitor is not None)
        return session

    try:
        yield open_window
    finally:
        for session in opened:
            _end(session)
        detach_all()
        wait_for_tasks()


def _end(session: Session) -> None:
    """Stop what runs and close the window without a question."""
    for run in list_runs(session.runs.runs_dir):
        if run.is_running():
            run.command("stop")
    session.window.may_close = lambda: True
    session.window.close()
    session.window.deleteLater()


def click_node(session: Session, node: str) -> None:
    """Click a node's title on the canvas."""
    canvas = session.window.canvas
    canvas.fit_all()
    QApplication.processEvents()
    place = canvas.node_rect_in_view(node)
    at = QPoint(place.center().x(), place.top() + max(4, place.height() // 8))
    QTest.mouseClick(canvas.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, at)
    QApplication.processEvents()
    assert canvas.selected_ids() == (node,)


def type_setting(session: Session, qtbot: QtBot, node: str, field: str, text: str) -> None:
    """Type into a field of the inspector, as a user would."""
    click_node(session, node)
    editor = session.window.inspector.findChild(QWidget, f"field:{field}")
    assert editor is not None, field
    if not editor.isVisible():
        session.window.inspector.focus_field(node, field)
        qtbot.waitUntil(editor.isVisible)
    editor.setFocus()
    QTest.keyClick(editor, Qt.Key.Key_A, Qt.KeyboardModifier.ControlModifier)
    QTest.keyClicks(editor, text)
    QTest.keyClick(editor, Qt.Key.Key_Return)
    found = session.document.graph.node(node).settings[field]
    assert float(found) == float(text), (node, field, found)


def press(session: Session, name: str) -> None:
    """Click a button of the tool bar."""
    button = session.window.tool_bar.widgetForAction(session.window.own[name])
    assert button.isEnabled(), name
    QTest.mouseClick(button, LEFT)
