"""The status bar: stages of the run and messages left; problems, run, time left, device and memory right.

A click on the problems goes to the next one. The memory of this computer is read every two seconds.
"""

from __future__ import annotations

from typing import Any

import psutil
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import (
    QLabel,
    QProgressBar,
    QStatusBar,
    QStyle,
    QStyleOption,
    QToolButton,
    QWidget,
)

from studio.errors import Problem, counted
from studio.runs.progress import Progress
from studio.runs.state import RunState
from studio.runs.status import RunView, look_of
from studio.shown_text import line
from ui.style import icons
from ui.style.widgets import ElidedLabel, plain_tip

MEMORY_EVERY_MS = 2000
MESSAGE_MS = 6000
TEXT_PX = 6
GIB = 2**30
IDLE_WORDS = {"idle": "Ready", "preparing": "Checking the project and its data…"}


class StatusStrip(QStatusBar):
    """The status bar of the window."""

    problems_clicked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setSizeGripEnabled(False)
        self.setContentsMargins(0, 0, 6, 0)
        self.problems = QToolButton(self)
        self.problems.setAutoRaise(True)
        self.problems.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.problems.setStyleSheet("QToolButton { padding: 1px 6px; }")
        self.problems.clicked.connect(self.problems_clicked)
        self.run = ElidedLabel(self)
        self.progress = QProgressBar(self)
        self.progress.setFixedWidth(110)
        self.progress.setFixedHeight(12)
        self.progress.setTextVisible(False)
        self.progress.setRange(0, 1000)
        self.progress.setAccessibleName("Progress of the run")
        self.trail = ElidedLabel(self)
        self.trail.setContentsMargins(8, 0, 6, 0)
        self.trail.setAccessibleName("Stages of the run")
        self.addWidget(self.trail, 1)
        self.left = QLabel(self)
        self.device = QLabel(self, textFormat=Qt.TextFormat.PlainText)
        self.memory = QLabel(self)
        self._permanent = (
            self.problems,
            self.run,
            self.progress,
            self.left,
            self.device,
            self.memory,
        )
        for part in self._permanent:
            part.setContentsMargins(6, 0, 6, 0)
            self.addPermanentWidget(part)
        self.messageChanged.connect(lambda text: self.setToolTip(plain_tip(text)))
        self.progress.hide()
        self.left.hide()
        self._run_device, self._own_device, self._own_tip = "", "", ""
        self._timer = QTimer(self, interval=MEMORY_EVERY_MS)
        self._timer.timeout.connect(self._show_memory)
        self.show_problems([])
        self.show_run("idle", None, None)
        self._show_memory()

    def tell(self, text: str) -> None:
        """Show a message for a few seconds."""
        self.showMessage(line(text), MESSAGE_MS)

    def show_problems(self, problems: list[Problem]) -> None:
        """Show the number of problems and warnings."""
        if not problems:
            icon, role = "circle-check", "success"
        elif any(p.blocks for p in problems):
            icon, role = "circle-alert", "danger"
        else:
            icon, role = "triangle-alert", "warning"
        self.problems.setText(counted(problems) or "No problems")
        self.problems.setToolTip(
            plain_tip(problems[0].sentence) if problems else "The project has no problems"
        )
        icons.put(self.problems, icon, role)

    def show_run(
        self,
        phase: str,
        state: RunState | None,
        view: RunView | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Show the state, progress and remaining time of the run."""
        status = view.status if view is not None and view.active and phase != "idle" else phase
        words = IDLE_WORDS.get(phase) or look_of(status).word
        running = phase == "running" and progress is not None
        if running and progress is not None:
            words = progress.where
            if view is not None and view.resumed:
                words += f" ({view.resumed})"
        if view is not None and view.active and not view.own:
            words += f" of the project “{line(view.name)}”"
        self.run.setText(words)
        self.trail.setText(progress.trail if running and progress else "")
        self.progress.setVisible(phase in ("running", "stopping") and progress is not None)
        self.left.setVisible(running)
        if progress is not None:
            self.progress.setValue(round(1000 * progress.fraction))
            self.left.setText(f"{progress.percent} · {progress.left}")
        self._run_device = state.device if state else ""
        self._show_device()

    def show_device(self, label: str, why: str) -> None:
        """Show the device of the next run while none is shown; ``why`` says what is not used."""
        self._own_device, self._own_tip = label, why
        self._show_device()

    def _show_device(self) -> None:
        device = self._run_device or self._own_device
        self.device.setVisible(bool(device))
        self.device.setText(device)
        tip = "" if self._run_device else self._own_tip
        self.device.setToolTip(plain_tip(tip or "The device of the run"))

    def _show_memory(self) -> None:
        now = psutil.virtual_memory()
        used = (now.total - now.available) / GIB
        self.memory.setText(f"RAM {used:.1f} / {now.total / GIB:.0f} GiB")
        self.memory.setToolTip("Used and total memory of this computer")

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt: a message is elided before the parts at the right, which Qt would paint it under."""
        if not self.currentMessage():
            super().paintEvent(event)
            return
        painter, option = QPainter(self), QStyleOption()
        option.initFrom(self)
        panel = QStyle.PrimitiveElement.PE_PanelStatusBar
        self.style().drawPrimitive(panel, option, painter, self)
        room = self.rect().adjusted(TEXT_PX, 0, 0, 0)
        room.setRight(min(p.x() for p in self._permanent if p.isVisible()) - TEXT_PX)
        elide = Qt.TextElideMode.ElideRight
        shown = self.fontMetrics().elidedText(self.currentMessage(), elide, room.width())
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)

    def showEvent(self, event: Any) -> None:
        """Qt: read the memory while visible."""
        super().showEvent(event)
        self._timer.start()

    def hideEvent(self, event: Any) -> None:
        """Qt: stop reading while hidden."""
        super().hideEvent(event)
        self._timer.stop()
