"""An evaluation before and after tuning: its measures as bars, its questions with both answers.

Colour or length is never the only sign: the numbers are text beside the bars, a correct answer has
a check mark and a wrong one a cross.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QFont, QFontMetricsF, QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from studio.system.number_text import percent
from ui.monitor import words
from ui.monitor.table_look import read_only_rows
from ui.style import theme
from ui.style.widgets import plain_tip

BAR_PX = 18
ROW_GAP_PX = 3
MEASURE_GAP_PX = 8
LABEL_WIDTH_PX = 58
NUMBER_WIDTH_PX = 62
MARGIN_PX = 10
RADIUS_PX = 4
BIG_SHARE = 1.25
COLUMNS = (
    ("prompt", "Question"),
    ("expected", "Expected"),
    ("before", "Before"),
    ("after", "After"),
)
JUDGED = ("before", "after")
SHARES = (0.38, 0.19, 0.23)
MAX_SHOWN_CHARS = 400


class MeasureBars(QWidget):
    """Each measure (a share of 0 to 1) before and after tuning, as two painted bars with numbers."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._measures: dict[str, tuple[float | None, float | None]] = {}
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        theme.changed.connect(self.update)

    def show_measures(self, measures: Mapping[str, Mapping[str, Any]]) -> None:
        """Show these measures: ``{name: {before, after}}``."""
        self._measures = {
            name: (_share(pair.get("before")), _share(pair.get("after")))
            for name, pair in measures.items()
        }
        self.setAccessibleName(self.text())
        self.updateGeometry()
        self.update()

    def text(self) -> str:
        """The bars as text: ``Exact match: 0 % before, 86 % after``."""
        return "; ".join(
            f"{title(name)}: {_words(before)} before, {_words(after)} after"
            for name, (before, after) in self._measures.items()
        )

    def sizeHint(self) -> QSize:
        """High enough for every measure."""
        return QSize(320, round(2 * MARGIN_PX + len(self._measures) * self._measure_height()))

    def minimumSizeHint(self) -> QSize:
        """Bars may be short; names and numbers must be readable."""
        metrics = QFontMetricsF(self._big())
        heads = (
            f"{title(name)}  {_change(before, after)}"
            for name, (before, after) in self._measures.items()
        )
        widest = max((metrics.horizontalAdvance(head) for head in heads), default=0.0)
        bars = LABEL_WIDTH_PX + NUMBER_WIDTH_PX + 80
        return QSize(max(round(widest) + 2 * MARGIN_PX, bars), self.sizeHint().height())

    def _measure_height(self) -> float:
        line = QFontMetricsF(self._big()).height()
        return line + ROW_GAP_PX + 2 * BAR_PX + ROW_GAP_PX + MEASURE_GAP_PX

    def _big(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * BIG_SHARE)
        font.setWeight(QFont.Weight.DemiBold)
        return font

    def paintEvent(self, event: QPaintEvent) -> None:
        """Name and change in one line, then the two bars."""
        del event
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        top = float(MARGIN_PX)
        for name, (before, after) in self._measures.items():
            self._paint_head(painter, top, name, before, after)
            line = QFontMetricsF(self._big()).height() + ROW_GAP_PX
            look = theme.colors()
            self._paint_bar(painter, top + line, "Before", before, look.text_muted)
            row = top + line + BAR_PX + ROW_GAP_PX
            self._paint_bar(painter, row, "After", after, look.success)
            top += self._measure_height()
        painter.end()

    def _paint_head(
        self, painter: QPainter, top: float, name: str, before: float | None, after: float | None
    ) -> None:
        look = theme.colors()
        painter.setFont(self._big())
        painter.setPen(look.text)
        height = QFontMetricsF(self._big()).height()
        area = QRectF(MARGIN_PX, top, self.width() - 2 * MARGIN_PX, height)
        painter.drawText(area, Qt.AlignmentFlag.AlignLeft, title(name))
        if before is not None and after is not None:
            painter.setPen(look.success if after > before else look.text_muted)
            painter.drawText(area, Qt.AlignmentFlag.AlignRight, _change(before, after))

    def _paint_bar(
        self, painter: QPainter, top: float, label: str, value: float | None, color: Any
    ) -> None:
        look = theme.colors()
        painter.setFont(self.font())
        painter.setPen(look.text_muted)
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(QRectF(MARGIN_PX, top, LABEL_WIDTH_PX, BAR_PX), middle, label)
        left = MARGIN_PX + LABEL_WIDTH_PX
        room = max(self.width() - left - NUMBER_WIDTH_PX - MARGIN_PX, 10)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(look.grid)
        painter.drawRoundedRect(QRectF(left, top + 3, room, BAR_PX - 6), RADIUS_PX, RADIUS_PX)
        if value:
            painter.setBrush(color)
            width = max(room * min(value, 1.0), 2 * RADIUS_PX)
            painter.drawRoundedRect(QRectF(left, top + 3, width, BAR_PX - 6), RADIUS_PX, RADIUS_PX)
        painter.setPen(look.text)
        number = QRectF(left + room, top, NUMBER_WIDTH_PX, BAR_PX)
        painter.drawText(number, Qt.AlignmentFlag.AlignRight | middle, _words(value))


def title(name: str) -> str:
    """A measure's name as words: ``exact_match`` becomes “Exact match”."""
    return name.replace("_", " ").capitalize()


def _share(value: Any) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) else None


def _change(before: float | None, after: float | None) -> str:
    known = before is not None and after is not None
    return f"{_words(before)} → {_words(after)}" if known else ""


def _words(value: float | None) -> str:
    return words.MISSING if value is None else percent(value)


class ExampleTable(QTableWidget):
    """One row per question, with the answers side by side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(0, len(COLUMNS), parent)
        self._examples: list[dict[str, Any]] = []
        self.setHorizontalHeaderLabels([title for _, title in COLUMNS])
        read_only_rows(self)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setStyleSheet("QTableWidget::item { padding-left: 6px; }")
        self.setAccessibleName("Examples before and after tuning")
        header = self.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setMinimumSectionSize(40)
        theme.changed.connect(self._fill)

    def resizeEvent(self, event: Any) -> None:
        """Share the width."""
        super().resizeEvent(event)
        for column, share in enumerate(SHARES):
            self.setColumnWidth(column, round(self.viewport().width() * share))

    def show_examples(self, examples: Sequence[dict[str, Any]]) -> None:
        """Show these examples: ``{prompt, expected, before, after, right, cut}``."""
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
    item.setToolTip(plain_tip(full))
    if key in JUDGED and example.get("expected") is not None:
        right = _is_right(key, full, example)
        mark, tail = "✓" if right else "✕", ""
        if key in example.get("cut", ()):
            tail = " … (cut)"
            item.setToolTip(plain_tip(f"{full} …\n\nCut at the maximum number of new tokens."))
        item.setText(f"{mark}  {text}{tail}")
        item.setForeground(look.success if right else look.text_muted)
    return item


def _is_right(key: str, answer: str, example: dict[str, Any]) -> bool:
    """As it was counted; earlier versions did not record it for each answer."""
    if "right" in example:
        return key in example["right"]
    return answer == str(example["expected"]).strip()
