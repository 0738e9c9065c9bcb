"""The rows of a step whose loss was no number, as the user meets them after the run."""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QPushButton

from ui.dialogs.rows_dialog import RowsDialog

RECORD = {
    "step": 7,
    "what": "loss",
    "value": "nan",
    "kept": 6,
    "rows": [
        {"file": "/data/talk.jsonl", "line": 12, "text": "say\nax"},
        {"file": "/data/talk.jsonl", "line": 31, "text": "say bz"},
    ],
}


def test_rows_are_listed_and_copied(qtbot: Any) -> None:
    dialog = RowsDialog(RECORD)
    qtbot.addWidget(dialog)
    dialog.show()
    text = " ".join(label.text() for label in dialog.findChildren(QLabel))
    assert "The loss of step 7 is nan" in text
    assert "The checkpoint of step 6 was saved before it." in text
    shown = [dialog.list.topLevelItem(i) for i in range(dialog.list.topLevelItemCount())]
    assert [[i.text(0), i.text(1), i.text(2)] for i in shown] == [
        ["talk.jsonl", "12", "say ax"],
        ["talk.jsonl", "31", "say bz"],
    ]
    button = next(b for b in dialog.findChildren(QPushButton) if b.text() == "Copy")
    QTest.mouseClick(button, Qt.MouseButton.LeftButton)
    assert QGuiApplication.clipboard().text().splitlines()[1] == "/data/talk.jsonl:31\tsay bz"
