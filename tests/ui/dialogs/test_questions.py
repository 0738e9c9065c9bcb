"""The small questions and the crash dialog: answers by mouse, by key and by Escape."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QLabel, QPlainTextEdit, QPushButton, QWidget

from ui.dialogs.crash_dialog import CrashDialog
from ui.style.choice_dialog import tell
from ui.window.project_controller import UnsavedChangesDialog, ask_unsaved


@pytest.mark.parametrize("answer", ["save", "discard", "cancel"])
def test_unsaved_changes(qtbot: Any, answer: str) -> None:
    parent = QWidget()
    qtbot.addWidget(parent)

    def press() -> None:
        dialog = QApplication.activeModalWidget()
        assert isinstance(dialog, UnsavedChangesDialog)
        assert "Support tone" in dialog.accessibleDescription()
        QTest.mouseClick(dialog.findChild(QPushButton, answer), Qt.MouseButton.LeftButton)

    QTimer.singleShot(20, press)
    assert ask_unsaved("Support tone", parent) == answer


def test_escape_and_return(qtbot: Any) -> None:
    for key, wanted in ((Qt.Key.Key_Escape, "cancel"), (Qt.Key.Key_Return, "save")):
        dialog = UnsavedChangesDialog("P")
        qtbot.addWidget(dialog)
        QTimer.singleShot(20, lambda d=dialog, k=key: QTest.keyClick(d, k))
        dialog.exec()
        assert dialog.chosen == wanted


def test_crash_dialog_folds_out_and_copies(qtbot: Any) -> None:
    dialog = CrashDialog("Oh", "Something broke.", "Save your project.", "Traceback\nValueError")
    qtbot.addWidget(dialog)
    dialog.show()
    trace = dialog.findChild(QPlainTextEdit, "trace")
    assert not trace.isVisible()
    QTest.mouseClick(dialog.findChild(QPushButton, "details"), Qt.MouseButton.LeftButton)
    assert trace.isVisible()
    QTest.mouseClick(dialog.findChild(QPushButton, "copy"), Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text() == "Traceback\nValueError"
    extra = dialog.add_button("Show log")
    qtbot.waitUntil(extra.isVisible)
    QTest.mouseClick(dialog.findChild(QPushButton, "close"), Qt.MouseButton.LeftButton)
    assert not dialog.isVisible()


def test_a_message_shows_markup_as_it_is_written(qtbot: Any) -> None:
    seen: list[str] = []

    def read() -> None:
        dialog = QApplication.activeModalWidget()
        labels = [label for label in dialog.findChildren(QLabel) if label.text()]
        assert {label.textFormat() for label in labels} == {Qt.TextFormat.PlainText}
        seen.extend(label.text() for label in labels)
        QTest.keyClick(dialog, Qt.Key.Key_Escape)

    QTimer.singleShot(0, read)
    tell("Not opened", "<b>a</b>.studio is damaged.", "<img src='x'>")
    assert seen == ["<b>a</b>.studio is damaged.", "<img src='x'>"]
