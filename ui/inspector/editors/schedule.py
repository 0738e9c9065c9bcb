"""The field for the learning rate schedule: a list, and under it a picture of the chosen schedule.

The picture shows the learning rate at each step, including warmup. It reads settings and never
changes them.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from PySide6.QtCore import QPointF, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFont, QPainter, QPaintEvent, QPen, QPolygonF
from PySide6.QtWidgets import QSizePolicy, QWidget

from studio.graph.schema import FieldSpec
from studio.node_settings.schedules import FIELDS, rate_factor, warmup_steps
from studio.node_settings.train import TrainSettings
from studio.system.number_text import percent
from ui.inspector.editors.base import FieldContext
from ui.inspector.editors.choices import ChoiceEditor
from ui.inspector.editors.number_text import to_text
from ui.style import theme

UNKNOWN_STEPS = 1000
"""The drawn length of a run with an unknown number of steps."""
WARMUP_SHARE = 10
"""The minimum drawn length of such a run, as a multiple of its warmup."""
POINTS = 400
_LINES = 5
_TEXT_SHARE = 0.85
_FILL_ALPHA = 40


class ScheduleEditor(ChoiceEditor):
    """The list of schedules; the picture follows the other settings that shape it."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        self.picture = self.below = SchedulePicture(parent)
        super().__init__(spec, path, context, parent)

    def set_value(self, value: Any) -> None:
        """Show a schedule, in the list and as a picture."""
        super().set_value(value)
        names = (*FIELDS, "max_steps")
        values = {name: self.context.value(name) for name in names if name != self.spec.name}
        values[self.spec.name] = value
        self.picture.show_settings({n: v for n, v in values.items() if v is not None})


class SchedulePicture(QWidget):
    """The learning rate from the first step to the last; the peak is labelled. Hidden while the
    settings are not valid."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("schedule-picture")
        self.setAccessibleName("Learning rate over the run")
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self._values: dict[str, Any] | None = None
        self._estimated: int | None = None
        self._settings: TrainSettings | None = None
        self.points: list[tuple[int, float]] = []
        theme.changed.connect(self.update)

    @property
    def steps(self) -> int:
        """The length of the run that is drawn, in optimizer steps."""
        known = self._known_steps()
        if known or self._settings is None:
            return known or UNKNOWN_STEPS
        return max(UNKNOWN_STEPS, WARMUP_SHARE * self._settings.warmup_steps)

    def show_settings(self, values: dict[str, Any]) -> None:
        """Draw the schedule of these settings of a Train node; the same ones change nothing."""
        if values == self._values:
            return
        self._values = values
        try:
            self._settings = TrainSettings.model_validate(values)
        except ValidationError:
            self._settings = None
        self._compute()

    def set_steps(self, steps: int | None) -> None:
        """Set the estimated number of steps; ``None`` if it is unknown."""
        if steps != self._estimated:
            self._estimated = steps
            self._compute()

    def _known_steps(self) -> int:
        """The number of steps: set by the user, else estimated; 0 if unknown."""
        fixed = self._settings.max_steps if self._settings is not None else 0
        return fixed or self._estimated or 0

    def _compute(self) -> None:
        settings = self._settings
        self.setHidden(settings is None)
        if settings is None:
            self.points = []
            return
        steps = self.steps
        shown = {round(i * (steps - 1) / POINTS) for i in range(POINTS + 1)}
        shown.add(min(warmup_steps(settings, steps), steps - 1))
        self.points = [(step, rate_factor(settings, step, steps)) for step in sorted(shown)]
        self.setAccessibleDescription(self._in_words(settings, steps))
        self.setToolTip(self.accessibleDescription())
        self.update()

    def _in_words(self, settings: TrainSettings, steps: int) -> str:
        rate = settings.learning_rate
        peak = to_text(rate * max(factor for _, factor in self.points))
        last = to_text(float(f"{rate * self.points[-1][1]:.2g}"))
        warmup = warmup_steps(settings, steps)
        if not warmup:
            return f"Starts at {peak} and ends at {last}."
        if self._known_steps():
            rising = f"{warmup:,} of {steps:,} steps"
        else:
            rising = f"{percent(warmup / steps)} of the run"
        return f"Rises to {peak} in the first {rising} and ends at {last}."

    # ------------------------------------------------------------ painting

    def sizeHint(self) -> QSize:
        """Five lines of text high; as wide as the form."""
        return QSize(0, self.fontMetrics().height() * _LINES)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Axis, labels and curve."""
        del event
        settings = self._settings
        if settings is None:
            return
        look = theme.colors()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * _TEXT_SHARE)
        painter.setFont(font)
        line = painter.fontMetrics().height()
        plot = QRectF(self.rect()).adjusted(1, line + 3, -1, -line - 3)
        painter.setPen(look.text_muted)
        top = QRectF(0, 0, self.width(), line)
        bottom = QRectF(0, self.height() - line, self.width(), line)
        peak = settings.learning_rate * max(factor for _, factor in self.points)
        known = self._known_steps()
        painter.drawText(top, Qt.AlignmentFlag.AlignLeft, f"Peak {to_text(peak)}")
        painter.drawText(bottom, Qt.AlignmentFlag.AlignLeft, "Step 1" if known else "Start")
        end = f"Step {known:,}" if known else "End of the run"
        painter.drawText(bottom, Qt.AlignmentFlag.AlignRight, end)
        painter.setPen(QPen(look.border, 1, Qt.PenStyle.DotLine))
        painter.drawLine(plot.topLeft(), plot.topRight())
        painter.setPen(QPen(look.border_strong, 1))
        painter.drawLine(plot.bottomLeft(), plot.bottomRight())
        self._paint_curve(painter, plot, look.accent)
        painter.end()

    def _paint_curve(self, painter: QPainter, plot: QRectF, color: QColor) -> None:
        last = max(1, self.points[-1][0])
        top = max(factor for _, factor in self.points) or 1.0
        curve = [
            QPointF(
                plot.left() + plot.width() * step / last, plot.bottom() - plot.height() * f / top
            )
            for step, f in self.points
        ]
        if len(curve) == 1:  # a run of one step has one rate
            curve.append(QPointF(plot.right(), curve[0].y()))
        fill = QColor(color)
        fill.setAlpha(_FILL_ALPHA)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(fill)
        ends = [QPointF(curve[-1].x(), plot.bottom()), QPointF(curve[0].x(), plot.bottom())]
        painter.drawPolygon(QPolygonF([*curve, *ends]))
        painter.setPen(QPen(color, 1.6))
        painter.drawPolyline(QPolygonF(curve))
