"""The table of the parity check: what each export lost, and whether it may be used.

Colour is never the only sign: the verdict is a sign and a word.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import QEvent, Qt
from PySide6.QtWidgets import (
    QHeaderView,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from studio.export_folder.parity import COLUMNS, rows_of
from ui.monitor.table_look import read_only_rows
from ui.style import theme
from ui.style.widgets import plain_tip

MOST_ROWS, PADDING_PX = 6, 6
CAUSE, CAUSE_DIGITS = len(COLUMNS), 42
"""The column of causes, and its width in digits; the tip shows all of a longer one."""
_HEADS = {
    "what": "Export",
    "check": "Check",
    "size": "Size",
    "tokens/s": "Tokens/s",
    "KL mean": "KL mean",
    "KL p99": "KL p99",
    "top-1": "Top-1",
    "exact match": "Exact match",
    "gain kept": "Gain kept",
}
_TIPS = {
    "Check": "Whether the export, read back by its own program, is the trained model; of programs that were not run, "
    "whether it meets their rules",
    "Tokens/s": "Speed of generating one text on this machine",
    "KL mean": "Mean divergence of the next-token probabilities from those of the trained model, in nats",
    "KL p99": "The divergence that 99 % of the positions stay below, in nats",
    "Top-1": "Share of positions at which the most likely token is the same",
    "Exact match": "Of the base model → of the trained model; of this export, on the same rows",
    "Gain kept": "Share of the improvement in loss, from the base model to the trained one, that is left",
}


class CheckTable(QTableWidget):
    """A row for each part of each export, as high as its rows."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS) + 1, parent)
        self._checks: list[Mapping[str, Any]] = []
        self._titles: Mapping[str, str] = {}
        self.setHorizontalHeaderLabels([*(_HEADS[c] for c in COLUMNS), "Cause"])
        for column in range(self.columnCount()):
            item = self.horizontalHeaderItem(column)
            if item is not None:
                item.setToolTip(_TIPS.get(item.text(), ""))
        read_only_rows(self)
        self.setAccessibleName("Checks of the exports")
        self.setStyleSheet(f"QTableWidget::item {{ padding-left: {PADDING_PX}px; }}")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        header = self.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(CAUSE, QHeaderView.ResizeMode.Interactive)
        header.moveSection(
            CAUSE, 2
        )  # beside the check: the last columns are out of view in a narrow window
        theme.changed.connect(self._fill)
        self.hide()

    def changeEvent(self, event: QEvent) -> None:
        """Qt: rows of another font have another height."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.StyleChange):
            self._fit()

    def show_checks(
        self, checks: Sequence[Mapping[str, Any]], titles: Mapping[str, str] | None = None
    ) -> None:
        """Show these checks; ``titles`` are those of their nodes, which are shown if there are several."""
        if list(checks) == self._checks:
            return
        self._checks, self._titles = list(checks), titles or {}
        self._fill()

    def _fill(self) -> None:
        look = theme.colors()
        several = len({c.get("node") for c in self._checks}) > 1
        found = [(check, row) for check in self._checks for row in rows_of(check)]
        self.setRowCount(len(found))
        for number, (check, row) in enumerate(found):
            words = list(row.words)
            if several:
                words[0] = f"{self._titles.get(str(check.get('node')), '')}: {words[0]}"
            for column, word in enumerate([*words, row.cause]):
                item = QTableWidgetItem(word)
                item.setToolTip(plain_tip(row.cause or word))
                if column == 1:
                    item.setForeground(getattr(look, row.role))
                self.setItem(number, column, item)
        self.setColumnHidden(CAUSE, not any(row.cause for _, row in found))
        most = self.fontMetrics().horizontalAdvance("0") * CAUSE_DIGITS
        self.setColumnWidth(CAUSE, min(most, self.sizeHintForColumn(CAUSE) + 2 * PADDING_PX))
        self.setVisible(bool(self._checks))
        self._fit()

    def _fit(self) -> None:
        rows = sum(self.rowHeight(i) for i in range(min(self.rowCount(), MOST_ROWS)))
        bar = self.horizontalScrollBar().sizeHint().height()
        self.setFixedHeight(self.horizontalHeader().sizeHint().height() + rows + bar + 4)
