"""The rows of a step with non-finite values: file, line and the beginning of each.

They are the best clue to the cause. It only shows and copies text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QAbstractItemView,
    QDialog,
    QHBoxLayout,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ui.style.widgets import MutedLabel, TextLabel, plain_tip, resize_on_screen

_WIDTH, _HEIGHT = 720, 380


class RowsDialog(QDialog):
    """One line for each row."""

    def __init__(self, record: Mapping[str, Any], parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Rows of the Step")
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self._rows: Sequence[Mapping[str, Any]] = list(record.get("rows") or ())
        self.list = QTreeWidget(self)
        self.list.setHeaderLabels(["File", "Line", "Text"])
        self.list.setRootIsDecorated(False)
        self.list.setUniformRowHeights(True)
        self.list.setAccessibleName("Rows of the step")
        self.list.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        for row in self._rows:
            item = QTreeWidgetItem(
                [Path(str(row.get("file"))).name, str(row.get("line")), _line(row)]
            )
            item.setToolTip(0, plain_tip(str(row.get("file"))))
            item.setToolTip(2, plain_tip(str(row.get("text") or "")))
            self.list.addTopLevelItem(item)
        for number in (0, 1):
            self.list.resizeColumnToContents(number)
        copy, close = QPushButton("Copy", self), QPushButton("Close", self)
        copy.clicked.connect(self._copy)
        close.clicked.connect(self.accept)
        close.setDefault(True)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(copy)
        buttons.addWidget(close)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 12)
        column.addWidget(TextLabel(headline(record), self))
        column.addWidget(self.list, 1)
        column.addWidget(MutedLabel(_kept(record), self))
        column.addLayout(buttons)
        resize_on_screen(self, _WIDTH, _HEIGHT)

    def _copy(self) -> None:
        lines = (f"{r.get('file')}:{r.get('line')}\t{_line(r)}" for r in self._rows)
        QGuiApplication.clipboard().setText("\n".join(lines))


def _line(row: Mapping[str, Any]) -> str:
    """The beginning of a row, without line breaks."""
    return " ".join(str(row.get("text") or "").split())


def headline(record: Mapping[str, Any]) -> str:
    """The value and the step that were not finite."""
    what = {"loss": "The loss", "gradient": "The gradient", "weights": "A trained weight"}
    name = what.get(str(record.get("what")), "A value")
    return f"{name} of step {record.get('step')} is {record.get('value')}. These rows were in the step:"


def _kept(record: Mapping[str, Any]) -> str:
    kept = record.get("kept")
    return (
        f"The checkpoint of step {kept} was saved before it."
        if kept
        else ("No checkpoint is available.")
    )
