"""The questions of an evaluation with the answers before and after tuning, side by side.

A correct answer has a check mark and a wrong one a cross: colour is never the only sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QAbstractItemView,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from ui.style import theme

COLUMNS = (
    ("prompt", "Question"),
    ("expected", "Expected"),
    ("before", "Before"),
    ("after", "After"),
)
JUDGED = ("before", "after")
SHARES = (0.38, 0.19, 0.23)
MAX_SHOWN_CHARS = 400


class ExampleTable(QTableWidget):
    """One row per example."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        self._examples: list[dict[str, Any]] = []
        self.setHorizontalHeaderLabels([title for _, title in COLUMNS])
        self.verticalHeader().hide()
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setShowGrid(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setAlternatingRowColors(True)
        self.setWordWrap(False)
        self.setStyleSheet("QTableWidget::item { padding-left: 6px; }")
        self.setAccessibleName("Examples before and after tuning")
        header = self.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        header.setStretchLastSection(True)
        header.setMinimumSectionSize(40)
        theme.changed.connect(self._fill)

    def resizeEvent(self, event: Any) -> None:
        """Share the width."""
        super().resizeEvent(event)
        for column, share in enumerate(SHARES):
            self.setColumnWidth(column, round(self.viewport().width() * share))

    def show_examples(self, examples: Sequence[dict[str, Any]]) -> None:
        """Show these examples: ``{prompt, expected, before, after}``."""
        if list(examples) == self._examples:
            return
        self._examples = list(examples)
        self._fill()

    def _fill(self) -> None:
        self.setRowCount(len(self._examples))
        for row, example in enumerate(self._examples):
            for column, (key, _) in enumerate(COLUMNS):
                self.setItem(row, column, _cell(key, example))


def _cell(key: str, example: dict[str, Any]) -> QTableWidgetItem:
    look = theme.colors()
    full = str(example.get(key) or "").strip()
    text = " ".join(full[:MAX_SHOWN_CHARS].split())
    item = QTableWidgetItem(text)
    item.setToolTip(full)
    if key in JUDGED and example.get("expected") is not None:
        right = full == str(example["expected"]).strip()
        item.setText(f"{'✓' if right else '✕'}  {text}")
        item.setForeground(look.success if right else look.text_muted)
    return item
