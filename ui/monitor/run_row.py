"""A run in the list: name and status in one line, date, duration and loss below.

It is a delegate, so that hundreds of runs need no widgets.
"""

from __future__ import annotations

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFont, QFontMetrics, QPainter
from PySide6.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from ui.monitor import words
from ui.monitor.run_summary import RunSummary
from ui.style import theme

SUMMARY_ROLE = Qt.ItemDataRole.UserRole + 1
MARGIN_PX = 10
ROW_PADDING_PX = 7
SMALL_SHARE = 0.9
Index = QModelIndex | QPersistentModelIndex


class RunRow(QStyledItemDelegate):
    """Paints a ``RunSummary``; a run not read yet shows its id alone."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """Two lines of text."""
        del index
        lines = QFontMetrics(option.font).height() + QFontMetrics(_small(option.font)).height()
        return QSize(120, lines + 2 * ROW_PADDING_PX + 2)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Background as other lists have it, then the two lines."""
        self.initStyleOption(option, index)
        summary = index.data(SUMMARY_ROLE)
        name, option.text = option.text, ""
        style = option.widget.style()
        style.drawControl(QStyle.ControlElement.CE_ItemViewItem, option, painter, option.widget)
        area = option.rect.adjusted(MARGIN_PX, ROW_PADDING_PX, -MARGIN_PX, -ROW_PADDING_PX)
        painter.save()
        if isinstance(summary, RunSummary):
            _paint_lines(painter, option.font, area, summary)
        else:
            painter.setPen(theme.colors().text_muted)
            painter.drawText(area, Qt.AlignmentFlag.AlignVCenter, name)
        painter.restore()


def _paint_lines(painter: QPainter, font: QFont, area: QRect, summary: RunSummary) -> None:
    look = theme.colors()
    metrics = QFontMetrics(font)
    top = QRect(area.left(), area.top(), area.width(), metrics.height())
    state = words.status_words(summary.status)
    state_width = metrics.horizontalAdvance(state)
    painter.setFont(font)
    painter.setPen(status_color(summary.status))
    painter.drawText(top, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, state)
    painter.setPen(look.text)
    room = top.width() - state_width - MARGIN_PX
    name = metrics.elidedText(summary.name, Qt.TextElideMode.ElideRight, room)
    painter.drawText(top, Qt.AlignmentFlag.AlignVCenter, name)
    small = _small(font)
    painter.setFont(small)
    painter.setPen(look.text_muted)
    below = QRect(area.left(), top.bottom() + 3, area.width(), QFontMetrics(small).height())
    text = QFontMetrics(small).elidedText(
        details(summary), Qt.TextElideMode.ElideRight, below.width()
    )
    painter.drawText(below, Qt.AlignmentFlag.AlignVCenter, text)


def status_color(status: str) -> QColor:
    """The colour that goes with a status; the word beside it says the same."""
    look = theme.colors()
    return {
        "running": look.accent,
        "preparing": look.accent,
        "completed": look.success,
        "failed": look.danger,
        "interrupted": look.warning,
    }.get(status, look.text_muted)


def details(summary: RunSummary) -> str:
    """``Today 14:03 · 3:07 · loss 0.412``."""
    parts = [words.day_and_time(summary.started)]
    if summary.seconds is not None:
        parts.append(words.duration(summary.seconds))
    if summary.loss is not None:
        parts.append(f"loss {words.number_text(summary.loss, 3)}")
    return " · ".join(parts)


def sentence(summary: RunSummary) -> str:
    """The row as text, for screen readers and tests."""
    return f"{summary.name}: {words.STATUS_WORDS.get(summary.status, summary.status)}, " + details(
        summary
    )


def _small(font: QFont) -> QFont:
    made = QFont(font)
    made.setPointSizeF(font.pointSizeF() * SMALL_SHARE)
    return made
