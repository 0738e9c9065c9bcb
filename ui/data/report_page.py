"""The Report tab: what a look at every row found, how long it takes, and what can be done about it.

It starts by itself where the data are small. It shows a ``DataReport`` and must not judge rows.
"""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from studio.runs.token_request import TokenRequest
from ui.data.controller import SMALL_ROWS, DataDesk
from ui.data.report_view import ReportView
from ui.data.state_page import PageStack, StatePage, fill, show_bar
from ui.data.token_words import left_words
from ui.inspector.look import MutedLabel, TextLabel, scrolling
from ui.style import icons

STALE = "The data or settings have changed since this report was created."
BEFORE = (
    "A report analyzes all rows: lengths, duplicates, leaks, empty answers, roles, encoding errors."
)


class ReportPage(QWidget):
    """``row_wanted`` carries the number of a row that the user wants to see."""

    row_wanted = Signal(object)

    def __init__(self, desk: DataDesk, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("report-page")
        self._desk = desk
        self._cancelled: TokenRequest | None = None
        self.button = QPushButton("Create report", self)
        self.button.setObjectName("make-report")
        self.button.clicked.connect(self._pressed)
        self.told = TextLabel("", self)
        self.told.setObjectName("report-told")
        self.progress = QProgressBar(self)
        self.progress.setObjectName("report-progress")
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(8)
        self.trouble = MutedLabel("", self)
        self.trouble.setObjectName("report-trouble")
        self.view = ReportView(self)
        self.view.row_wanted.connect(self.row_wanted)
        self.view.fix_wanted.connect(desk.apply)
        self.view.length_wanted.connect(desk.set_max_length)
        self.state = StatePage(self)
        self.state.pressed.connect(desk.retry)
        self._lay_out()
        desk.changed.connect(self._refresh)
        desk.report_changed.connect(self._refresh)
        self._refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(self.button)
        row.addWidget(self.told, 1)
        top = QVBoxLayout()
        top.setContentsMargins(12, 10, 12, 4)
        top.setSpacing(6)
        top.addLayout(row)
        top.addWidget(self.progress)
        top.addWidget(self.trouble)
        full = QWidget(self)
        fill(full, top, scrolling(self.view, self))
        self._stack = PageStack(self, self.state, full)

    # ------------------------------------------------------------ the desk

    def _refresh(self) -> None:
        desk = self._desk
        shown = desk.state == "open" or (desk.report is not None and desk.state != "closed")
        self._stack.show_full(shown)
        if not shown:
            self.state.show_desk(desk)
            return
        wanted = desk.max_length if desk.stale else None  # else the one that a training takes
        self.view.show_report(desk.report, stale=desk.stale, max_length=wanted)
        self._show_state()
        self._start_alone()

    def _show_state(self) -> None:
        desk, progress = self._desk, self._desk.report_progress
        self.progress.setVisible(desk.reporting)
        self.button.setEnabled(desk.state == "open")
        if desk.reporting:
            show_bar(self.progress, progress)
            done = f"{progress.done:,} of {progress.total:,} rows" if progress else ""
            left = left_words(progress.eta_s) if progress else ""
            self._say("Cancel", "x", f"{done} · {left}" if left else done)
        elif desk.report is None:
            self._say("Create report", "search", BEFORE)
        elif desk.stale:
            self._say("Update", "refresh-cw", f"⚠ {STALE}")
        elif not desk.report.complete:
            part = f"Cancelled after {desk.report.done:,} of {desk.report.rows:,} rows."
            self._say("Create report", "search", f"⚠ {part}")
        else:
            self._say("Restart", "refresh-cw", _found_words(len(desk.report.findings)))
        problem = desk.report_problem or (desk.problem if desk.state == "failed" else None)
        self.trouble.setText(f"{problem.sentence} {problem.hint}".strip() if problem else "")
        self.trouble.setVisible(problem is not None)

    def _say(self, button: str, icon: str, told: str) -> None:
        if self.button.text() != button:
            self.button.setText(button)
            icons.put(self.button, icon, "text_muted")
        self.told.setText(told)

    def _start_alone(self) -> None:
        """Small data are looked at without asking, also after each change."""
        desk = self._desk
        if not self.isVisible() or desk.state != "open" or desk.reporting:
            return
        wanted = desk.report is None or desk.stale
        refused = self._cancelled is desk.request or desk.report_problem is not None
        if wanted and desk.rows <= SMALL_ROWS and not refused:
            desk.start_report()

    def _pressed(self) -> None:
        if self._desk.reporting:
            self._cancelled = self._desk.request
            self._desk.cancel_report()
        else:
            self._cancelled = None
            report = self._desk.report
            if report is not None and report.complete and not self._desk.stale:
                self._desk.renew_report()
            else:
                self._desk.start_report()

    def showEvent(self, event: QShowEvent) -> None:
        """Qt: look at small data as soon as somebody wants to see the report."""
        super().showEvent(event)
        self._start_alone()


def _found_words(count: int) -> str:
    return {0: "No problems found.", 1: "1 finding."}.get(count, f"{count} findings.")
