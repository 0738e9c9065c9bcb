"""The line above the curves: the state of the run in numbers.

Captions are small, values are bold; values that do not fit are hidden, the least important first.
It reads a ``RunState`` and keeps nothing of it.
"""

from __future__ import annotations

import math
import time
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from studio.runs.outcome import best_of
from studio.runs.progress import Progress
from studio.runs.series import Series
from studio.runs.state import RunState
from studio.runs.status import RunView, status_words
from ui.monitor import words
from ui.monitor.marks import best_words
from ui.style.widgets import plain_tip

CAPTIONS = {
    "status": "Run",
    "project": "Project",
    "resumed": "Resumed",
    "step": "Step",
    "loss": "Loss",
    "eval_loss": "Validation loss",
    "best": "Best",
    "speed": "Tokens/s",
    "progress": "Progress",
    "elapsed": "Elapsed",
    "device": "Device",
}
DROPPED_FIRST = (
    "device",
    "elapsed",
    "speed",
    "best",
    "eval_loss",
    "progress",
    "resumed",
    "project",
    "status",
)
OPTIONAL = ("project", "resumed", "device", "progress", "eval_loss", "best", "speed")
SPACING_PX = 16


class CaptionedValue(QWidget):
    """A caption and its value in one line."""

    def __init__(self, caption: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(6)
        self._caption = caption
        name = QLabel(caption, self)
        name.setProperty("muted", True)
        name.setForegroundRole(name.palette().ColorRole.PlaceholderText)
        self._value = QLabel(words.MISSING, self)
        self._value.setTextFormat(Qt.TextFormat.PlainText)
        bold = QFont(self._value.font())
        bold.setWeight(QFont.Weight.DemiBold)
        self._value.setFont(bold)
        self._value.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        layout.addWidget(name)
        layout.addWidget(self._value)

    def set_value(self, text: str) -> None:
        """Show a value."""
        if text != self._value.text():
            self._value.setText(text)
            self.setAccessibleName(f"{self._caption}: {text}")

    def value(self) -> str:
        """The shown value."""
        return self._value.text()


class HeaderLine(QWidget):
    """The main values of a run in one row."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._view: RunView | None = None
        self._layout = QHBoxLayout(self)
        self._layout.setContentsMargins(8, 2, 8, 2)
        self._layout.setSpacing(SPACING_PX)
        self._values = {key: CaptionedValue(text, self) for key, text in CAPTIONS.items()}
        for value_label in self._values.values():
            self._layout.addWidget(value_label)
        self._layout.addStretch(1)
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)

    def text_of(self, key: str) -> str:
        """The text of one value (for tests)."""
        return self._values[key].value()

    def use_view(self, view: RunView | None) -> None:
        """The status of the run and what it belongs to, shown with its values."""
        self._view = view

    def show_state(self, state: RunState, node: str | None) -> None:
        """Show the values of a run and of its training node, if there is one."""
        series = state.metrics.get(node) if node else None
        best = best_of(state, node)
        values = {
            "status": self._view.words() if self._view else status_words(state.status),
            "project": (self._view.of_project() if self._view else "") or words.MISSING,
            "resumed": _resumed(self._view.resumed if self._view else ""),
            "step": _step(series),
            "loss": words.number_text(_last(series, "loss")),
            "eval_loss": words.number_text(_last(series, "eval_loss")),
            "best": best_words(best) if best else words.MISSING,
            "speed": words.number_text(_last(series, "tokens_per_s"), 3),
            "elapsed": words.duration(elapsed(state)),
            "device": state.device or words.MISSING,
        }
        for key, text in values.items():
            self._values[key].set_value(text)
        self._drop()

    def show_progress(self, progress: Progress | None) -> None:
        """Show phase, share and time left of a run that is running; ``None`` shows none."""
        text = words.MISSING
        if progress is not None:
            text = " · ".join((progress.phase, progress.percent, progress.left))
        self._values["progress"].set_value(text)
        self._values["progress"].setToolTip(plain_tip(progress.trail) if progress else "")
        self._drop()

    def show_reading(self, fraction: float) -> None:
        """Show how much of an earlier run has been read."""
        self._values["status"].set_value(f"Reading its events, {100 * fraction:.0f} %")
        self._drop()

    def resizeEvent(self, event: Any) -> None:
        """Qt: hide values that do not fit."""
        super().resizeEvent(event)
        self._drop()

    def _drop(self) -> None:
        hidden = {k for k in OPTIONAL if self.text_of(k) == words.MISSING}
        widths = {k: f.sizeHint().width() + SPACING_PX for k, f in self._values.items()}
        for key in DROPPED_FIRST:
            if sum(w for k, w in widths.items() if k not in hidden) <= self.width():
                break
            hidden.add(key)
        for key, value_label in self._values.items():
            value_label.setVisible(key not in hidden)


def elapsed(state: RunState, now: float | None = None) -> float | None:
    """Seconds since the run started, up to its end."""
    if not state.started:
        return None
    end = state.finished or (now if now is not None else time.time())
    return max(0.0, end - state.started)


def _last(series: Series | None, name: str) -> float | None:
    """The last measured value, among the last few."""
    values = getattr(series, name) if series is not None else ()
    return next((v for v in reversed(values[-50:]) if not math.isnan(v)), None)


def _resumed(text: str) -> str:
    """``after step 12``: what follows the caption."""
    return (text.removeprefix("resumed").strip() or "yes") if text else words.MISSING


def _step(series: Series | None) -> str:
    if series is None or not series.step:
        return words.MISSING
    done = f"{series.step[-1]:,.0f}"
    return f"{done} / {series.steps:,}" if series.steps else done
