"""The Report tab: findings about all rows, progress, and fixes.

For small data the report starts automatically. It shows a ``DataReport`` and analyzes nothing
itself.
"""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from studio.runs.token_request import TokenRequest
from ui.data.controller import SMALL_ROWS, DataController
from ui.data.report_view import ReportView
from ui.data.state_page import PageStack, StatePage, fill, show_bar
from ui.data.token_words import left_words
from ui.style import icons
from ui.style.widgets import MutedLabel, TextLabel, scrolling

READING = "Reading the data again…"
STALE = "The data or settings have changed since this report was created."
BEFORE = (
    "A report analyzes all rows: lengths, duplicates, leaks, empty answers, roles, encoding errors."
)


class ReportPage(QWidget):
    """``row_wanted`` carries the number of a row that the user wants to see."""

    row_wanted = Signal(object)

    def __init__(self, controller: DataController, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("report-page")
        self._controller = controller
        self._cancelled: TokenRequest | None = None
        self.button = QPushButton("Create Report", self)
        self.button.setObjectName("make-report")
        self.button.clicked.connect(self._pressed)
        self.status = TextLabel("", self)
        self.status.setObjectName("report-status")
        self.progress = QProgressBar(self)
        self.progress.setObjectName("report-progress")
        self.progress.setTextVisible(False)
        self.progress.setMaximumHeight(8)
        self.error = MutedLabel("", self)
        self.error.setObjectName("report-error")
        self.view = ReportView(self)
        self.view.row_wanted.connect(self.row_wanted)
        self.view.fix_wanted.connect(controller.apply)
        self.view.length_wanted.connect(controller.set_max_length)
        self.state = StatePage(self)
        self.state.pressed.connect(controller.retry)
        self._lay_out()
        controller.changed.connect(self._refresh)
        controller.report_changed.connect(self._refresh)
        self._refresh()

    def _lay_out(self) -> None:
        row = QHBoxLayout()
        row.setSpacing(10)
        row.addWidget(self.button)
        row.addWidget(self.status, 1)
        top = QVBoxLayout()
        top.setContentsMargins(12, 10, 12, 4)
        top.setSpacing(6)
        top.addLayout(row)
        top.addWidget(self.progress)
        top.addWidget(self.error)
        full = QWidget(self)
        fill(full, top, scrolling(self.view, self))
        self._stack = PageStack(self, self.state, full)

    # ------------------------------------------------------------ following the controller

    def _refresh(self) -> None:
        controller = self._controller
        shown = controller.state == "open" or (
            controller.report is not None and controller.state != "closed"
        )
        self._stack.show_full(shown)
        if not shown:
            self.state.show_state_of(controller)
            return
        wanted = (
            controller.max_length if controller.stale else None
        )  # else the one that a training uses
        self.view.show_report(controller.report, stale=controller.stale, max_length=wanted)
        self._show_state()
        self._start_alone()

    def _show_state(self) -> None:
        controller, progress = self._controller, self._controller.report_progress
        self.progress.setVisible(controller.reporting)
        self.button.setEnabled(controller.state == "open")
        if controller.reporting:
            show_bar(self.progress, progress)
            done = f"{progress.done:,} of {progress.total:,} rows" if progress else ""
            left = left_words(progress.eta_s) if progress else ""
            self._say("Cancel", "x", f"{done} · {left}" if left else done)
        elif controller.report is None:
            self._say("Create Report", "search", BEFORE)
        elif controller.state == "opening":  # whether they have changed is not known yet
            self._say("Update", "refresh-cw", READING)
        elif controller.stale:
            self._say("Update", "refresh-cw", f"⚠ {STALE}")
        elif not controller.report.complete:
            part = f"Cancelled after {controller.report.done:,} of {controller.report.rows:,} rows."
            self._say("Create Report", "search", f"⚠ {part}")
        else:
            self._say("Refresh", "refresh-cw", _found_words(len(controller.report.findings)))
        problem = controller.report_problem or (
            controller.problem if controller.state == "failed" else None
        )
        self.error.setText(f"{problem.sentence} {problem.hint}".strip() if problem else "")
        self.error.setVisible(problem is not None)

    def _say(self, button: str, icon: str, text: str) -> None:
        if self.button.text() != button:
            self.button.setText(button)
            icons.put(self.button, icon, "text_muted")
        self.status.setText(text)

    def _start_alone(self) -> None:
        """Reports of small data start automatically, also after each change."""
        controller = self._controller
        if not self.isVisible() or controller.state != "open" or controller.reporting:
            return
        wanted = controller.report is None or controller.stale
        refused = self._cancelled is controller.request or controller.report_problem is not None
        if wanted and controller.rows <= SMALL_ROWS and not refused:
            controller.start_report()

    def _pressed(self) -> None:
        if self._controller.reporting:
            self._cancelled = self._controller.request
            self._controller.cancel_report()
        else:
            self._cancelled = None
            report = self._controller.report
            if report is not None and report.complete and not self._controller.stale:
                self._controller.renew_report()
            else:
                self._controller.start_report()

    def showEvent(self, event: QShowEvent) -> None:
        """Qt: start the report of small data when the tab is shown."""
        super().showEvent(event)
        self._start_alone()


def _found_words(count: int) -> str:
    return {0: "No problems found.", 1: "1 finding."}.get(count, f"{count} findings.")
