"""The list of earlier runs: show their curves, resume, show in folder, delete.

The selected run is the one that the panels show: selecting another shows it.
Summaries are read a few at a time, so that a long list does not block the window. It emits the
user's choices; only deleting (after confirmation) is done here. A delegate paints the rows, so that
hundreds of runs need no widgets.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from PySide6.QtCore import (
    QModelIndex,
    QPersistentModelIndex,
    QPoint,
    QRect,
    QSignalBlocker,
    QSize,
    Qt,
    QTimer,
    Signal,
)
from PySide6.QtGui import QColor, QFont, QFontMetrics, QMouseEvent, QPainter
from PySide6.QtWidgets import (
    QLabel,
    QListWidget,
    QListWidgetItem,
    QMenu,
    QStackedWidget,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from studio.runs.folder import RunFolder, delete_run, list_runs
from studio.runs.status import ACTIVE, look_of, status_words
from studio.runs.summary import RunSummary, changed_at, summarize
from studio.system.disk import what_to_do
from ui.monitor import words
from ui.monitor.reveal import reveal
from ui.style import icons, theme
from ui.style.choice_dialog import Choice, ChoiceDialog, tell
from ui.style.widgets import plain_tip

SUMMARY_ROLE = Qt.ItemDataRole.UserRole + 1
MARGIN_PX = 10
ROW_PADDING_PX = 7
SMALL_SHARE = 0.9
Index = QModelIndex | QPersistentModelIndex
LOOK_EVERY_MS = 3000
OPEN_AFTER_MS = 150  # arrow keys that pass over runs do not open each of them
SLICE = 8
MAX_SHOWN = 300
EMPTY_TEXT = "No runs yet.\nAll runs are listed here with their curves and results."


class RunRow(QStyledItemDelegate):
    """Paints a ``RunSummary``: name and status in one line, loss, date and duration below. A run not
    read yet shows its id alone."""

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
    state = status_words(summary.shown, short=True)
    state_width = metrics.horizontalAdvance(state)
    painter.setFont(font)
    painter.setPen(status_color(summary.shown))
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
    color: QColor = getattr(theme.colors(), look_of(status).role)
    return color


def details(summary: RunSummary) -> str:
    """``loss 0.412 · Today 14:03 · 3 min 07 s``, and where an unfinished run ended: a narrow list cuts the end."""
    parts = [words.day_and_time(summary.started)]
    if summary.loss is not None:
        parts.insert(0, f"loss {words.number_text(summary.loss, 3)}")
    if summary.ended or summary.resumed:  # the first names the second
        parts.append(summary.ended.rstrip(".") or summary.resumed)
    if summary.seconds is not None:
        parts.append(words.duration(summary.seconds))
    return " · ".join(parts)


def sentence(summary: RunSummary) -> str:
    """The row as text, for screen readers and tests."""
    return f"{summary.name}: {look_of(summary.shown).word}, {details(summary)}"


def _small(font: QFont) -> QFont:
    made = QFont(font)
    made.setPointSizeF(font.pointSizeF() * SMALL_SHARE)
    return made


class _List(QListWidget):
    """A list in which a right click opens the menu of a run without selecting it."""

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Qt: only the other buttons select."""
        if event.button() != Qt.MouseButton.RightButton:
            super().mousePressEvent(event)


class RunsPanel(QWidget):
    """Runs of one folder, newest first."""

    open_wanted = Signal(object)
    resume_wanted = Signal(object)
    deleted = Signal(object)

    def __init__(self, runs_dir: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._runs_dir = runs_dir
        self._waiting: list[RunFolder] = []
        self._seen: dict[str, tuple[int, int]] = {}
        self._shown_id = ""
        self._live: tuple[str, str] = ("", "")
        self.list = _List(self)
        self.list.setItemDelegate(RunRow(self.list))
        self.list.setUniformItemSizes(True)
        self.list.setAccessibleName("Earlier runs")
        self.list.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.list.customContextMenuRequested.connect(self._menu)
        self.list.itemSelectionChanged.connect(self._selected)
        self.list.itemActivated.connect(self._open_selected)
        empty = QLabel(EMPTY_TEXT, self)
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setWordWrap(True)
        empty.setContentsMargins(12, 0, 12, 0)
        empty.setForegroundRole(empty.palette().ColorRole.PlaceholderText)
        self._stack = QStackedWidget(self)
        self._stack.addWidget(empty)
        self._stack.addWidget(self.list)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)
        self._look = QTimer(self, interval=LOOK_EVERY_MS)
        self._look.timeout.connect(self.refresh)
        self._slice = QTimer(self, singleShot=True, interval=0)
        self._slice.timeout.connect(self._read_some)
        self._open_soon = QTimer(self, singleShot=True, interval=OPEN_AFTER_MS)
        self._open_soon.timeout.connect(self._open_selected)

    def set_runs_dir(self, runs_dir: Path) -> None:
        """List another folder."""
        self._runs_dir = runs_dir
        self._seen.clear()
        self._rebuild([])
        self.refresh()

    def refresh(self) -> None:
        """Update the list; new and changed runs are read between other events."""
        runs = list_runs(self._runs_dir)[:MAX_SHOWN]
        ids = [run.id for run in runs]
        if [self._id(i) for i in range(self.list.count())] != ids:
            self._rebuild(runs)
        self._stack.setCurrentIndex(1 if runs else 0)
        self._waiting = [run for run in runs if self._changed(run)]
        if self._waiting:
            self._slice.start()

    def _changed(self, run: RunFolder) -> bool:
        summary = self.summary(run.id)
        if summary is None or self._seen.get(run.id) != changed_at(run):
            return True
        return summary.status in ACTIVE

    def _rebuild(self, runs: list[RunFolder]) -> None:
        known = {
            self._id(i): self.list.item(i).data(SUMMARY_ROLE) for i in range(self.list.count())
        }
        with QSignalBlocker(self.list):
            self.list.clear()
            for run in runs:
                item = QListWidgetItem(run.id)
                item.setData(Qt.ItemDataRole.UserRole, run)
                item.setData(SUMMARY_ROLE, known.get(run.id))
                self.list.addItem(item)
        self._select_shown()

    def _read_some(self) -> None:
        now, self._waiting = self._waiting[:SLICE], self._waiting[SLICE:]
        for run in now:
            item = self._item(run.id)
            if item is None:
                continue
            self._seen[run.id] = changed_at(run)
            self._put(item, summarize(run))
        if self._waiting:
            self._slice.start()

    def _put(self, item: QListWidgetItem, summary: RunSummary) -> None:
        if summary.folder.id == self._live[0]:
            summary = replace(summary, status=self._live[1])
        if summary != item.data(SUMMARY_ROLE):
            item.setData(SUMMARY_ROLE, summary)
            item.setText(sentence(summary))
            item.setToolTip(plain_tip(f"{sentence(summary)}\n{summary.folder.path}"))

    def show_status(self, run_id: str, status: str) -> None:
        """Show the status of the run that this window follows, which knows more than its files: that it is asked to
        stop, for example."""
        if self._live == (run_id, status):
            return
        self._live = (run_id, status)
        item, summary = self._item(run_id), self.summary(run_id)
        if item is not None and summary is not None:
            self._put(item, summary)

    def _id(self, index: int) -> str:
        run: RunFolder = self.list.item(index).data(Qt.ItemDataRole.UserRole)
        return run.id

    def _item(self, run_id: str) -> QListWidgetItem | None:
        indices = range(self.list.count())
        return next((self.list.item(i) for i in indices if self._id(i) == run_id), None)

    def summary(self, run_id: str) -> RunSummary | None:
        """What is known about a run in the list."""
        item = self._item(run_id)
        found = item.data(SUMMARY_ROLE) if item else None
        return found if isinstance(found, RunSummary) else None

    def choose(self, run_id: str) -> None:
        """Select the run that the panels show, even if it is listed only later; none if empty."""
        self._shown_id = run_id
        self._open_soon.stop()
        self._select_shown()

    def _select_shown(self) -> None:
        with QSignalBlocker(self.list):
            item = self._item(self._shown_id)
            self.list.setCurrentItem(item) if item is not None else self.list.setCurrentRow(-1)

    def selected(self) -> RunFolder | None:
        """The selected run."""
        items = self.list.selectedItems()
        run = items[0].data(Qt.ItemDataRole.UserRole) if items else None
        return run if isinstance(run, RunFolder) else None

    def _selected(self) -> None:
        if self.selected() is None:
            self._select_shown()  # Ctrl and a click would leave the shown run unselected
        else:
            self._open_soon.start()

    def _open_selected(self) -> None:
        self._open_soon.stop()
        run = self.selected()
        if run is not None and run.id != self._shown_id:
            self.open_wanted.emit(run)

    def menu_for(self, run: RunFolder) -> QMenu:
        """The context menu of a run."""
        status = run.status()
        menu = QMenu(self)
        icons.put(menu.addAction("Show Curves", lambda: self.open_wanted.emit(run)), "chart-line")
        resume = menu.addAction("Resume", lambda: self.resume_wanted.emit(run))
        icons.put(resume, "play")
        resume.setEnabled(run.remains().offered(status))
        icons.put(menu.addAction("Show in Folder", lambda: reveal(run.path)), "folder-open")
        menu.addSeparator()
        delete = menu.addAction("Delete…", lambda: self.delete(run))
        icons.put(delete, "trash-2")
        delete.setEnabled(status not in ACTIVE)
        return menu

    def _menu(self, position: QPoint) -> None:
        item = self.list.itemAt(position)
        if item is None:
            return
        menu = self.menu_for(item.data(Qt.ItemDataRole.UserRole))
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.list.viewport().mapToGlobal(position))

    def delete(self, run: RunFolder) -> None:
        """Delete a run's folder after asking."""
        detail = (
            f"This deletes the run {run.id} with its curves, checkpoints and results. Results "
            "exported to other folders are kept."
        )
        choices = (Choice("delete", "Delete"), Choice("cancel", "Cancel", default=True))
        question = ChoiceDialog(
            "Delete Run", "Delete this run?", detail, choices, "trash-2", self.window()
        )
        if question.ask() != "delete":
            return
        try:
            delete_run(run)
        except OSError as error:
            title, reason = "The run was not deleted", f"{run.path}: {error.strerror}."
            tell(title, reason, what_to_do(error), self.window())
        self.deleted.emit(run)
        self.refresh()

    def showEvent(self, event: Any) -> None:
        """Qt: refresh while visible."""
        super().showEvent(event)
        self.refresh()
        self._look.start()

    def hideEvent(self, event: Any) -> None:
        """Qt: stop refreshing while hidden."""
        super().hideEvent(event)
        self._look.stop()
