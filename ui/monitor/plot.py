"""One live plot: a few curves, a crosshair, markers, and what a right click offers.

It keeps the full series and passes downsampled points (``decimate``) to pyqtgraph whenever the view
changes. It follows the newest data until the user pans or zooms. The panel gives it points; it does
not know runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPoint, Qt, Signal
from PySide6.QtGui import (
    QAccessible,
    QColor,
    QFont,
    QHelpEvent,
    QNativeGestureEvent,
    QPalette,
    QWheelEvent,
)
from PySide6.QtWidgets import QLabel, QToolTip, QVBoxLayout, QWidget

from ui.monitor import style, words
from ui.monitor.axes import XAxis, YAxis
from ui.monitor.curves import EMPTY, Axis, CurveSpec, PlotSpec, Points
from ui.monitor.decimate import for_screen
from ui.monitor.legend import Entry, LegendRow
from ui.monitor.marks import NO_MARKS, Marks
from ui.style import theme
from ui.style.touchpad import MIN_PINCH, ScrollDevice
from ui.style.widgets import plain_tip

STAR_PX = 16
OVER_CURVES = 20
END_LABEL = {"position": 0.94, "anchors": [(1.05, 0.5), (1.05, 0.5)], "movable": False}
Y_PADDING = 0.06
X_PADDING = 0.025  # space for half of a star at the end
MARKER_PX = 6
AXIS_WIDTH_PX = 46
RIGHT_MARGIN_PX = 10  # room for half of the last label
AXIS_FONT_SHARE = 0.86
LABEL_FROM_HEIGHT_PX = 210
REACH_PX = 5


class MarkLines:
    """Short ticks where checkpoints were saved, full lines where the run was resumed, ran out of
    memory or ended early, a star at the best evaluation."""

    def __init__(self, view: pg.PlotWidget) -> None:
        self.checkpoints = pg.VTickGroup(yrange=[0, 0.06])
        self.resumes = pg.VTickGroup(yrange=[0, 1])
        self.recoveries = pg.VTickGroup(yrange=[0, 1])
        self.end = pg.InfiniteLine(
            angle=90, movable=False, label="stopped early", labelOpts=END_LABEL
        )
        self.end.hide()
        for line in (self.checkpoints, self.resumes, self.recoveries, self.end):
            view.getPlotItem().addItem(line, ignoreBounds=True)
        self.best = view.plot([], [], pen=None, symbol="star", symbolSize=STAR_PX)
        self.best.setZValue(OVER_CURVES)

    def show(self, marks: Marks, *, large: bool) -> None:
        """Draw these marks; the star and the label at the end only on the ``large`` plot of the
        loss."""
        self.checkpoints.setXVals(list(marks.checkpoints))
        self.resumes.setXVals(list(marks.resumes))
        self.recoveries.setXVals(list(marks.recoveries))
        self.end.setVisible(marks.ended_early is not None)
        self.end.setValue(marks.ended_early or 0.0)
        self.end.label.setVisible(large)  # the small plots have no room
        starred = [[v] for v in marks.best] if marks.best is not None and large else [[], []]
        self.best.setData(*starred)

    def restyle(self) -> None:
        """Apply the colours of the theme."""
        look = style.look()
        self.checkpoints.setPen(pg.mkPen(look.success, width=2))
        self.resumes.setPen(pg.mkPen(look.warning, width=1, style=Qt.PenStyle.DashLine))
        self.recoveries.setPen(pg.mkPen(look.danger, width=1, style=Qt.PenStyle.DotLine))
        self.end.setPen(pg.mkPen(look.accent, width=1, style=Qt.PenStyle.DashDotLine))
        self.end.label.setColor(look.text_muted)
        self.best.setSymbolBrush(look.success)
        self.best.setSymbolPen(pg.mkPen(look.background, width=1))


class LivePlot(QWidget):
    """A plot of the curves in ``spec``.

    ``hovered`` carries the x of the crosshair, or ``None``; ``menu_wanted`` the global position of
    a right click.
    """

    hovered = Signal(object)
    menu_wanted = Signal(object)

    def __init__(self, spec: PlotSpec, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.spec = spec
        self.following = True
        self.log = False
        self.marks = NO_MARKS
        self._tip = ""
        self._points: dict[str, Points] = {}
        self._drawing = False
        self._axis: Axis = spec.axis
        self.x_axis, self.y_axis = XAxis(), YAxis()
        axes = {"bottom": self.x_axis, "left": self.y_axis}
        self.view = pg.PlotWidget(self, axisItems=axes, enableMenu=False)
        self.legend = LegendRow("", [], self)
        self._placeholder = QLabel(self, textFormat=Qt.TextFormat.PlainText)
        self._placeholder.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._placeholder.setWordWrap(True)
        self._placeholder.setAutoFillBackground(True)
        self._placeholder.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self._column = QVBoxLayout(self)
        self._items: dict[str, pg.PlotDataItem] = {}
        self._build()
        self.set_spec(spec)

    def _build(self) -> None:
        self._column.setContentsMargins(0, 2, 0, 0)
        self._column.setSpacing(0)
        self._column.addWidget(self.legend)
        self._column.addWidget(self.view, 1)
        item = self.view.getPlotItem()
        # pyqtgraph's own menu is never shown and has no owner: it would leak.
        item.ctrlMenu.setParent(self.view, item.ctrlMenu.windowFlags())
        item.hideButtons()
        item.layout.setContentsMargins(0, 0, RIGHT_MARGIN_PX, 0)
        item.setClipToView(True)
        item.showGrid(x=True, y=True, alpha=0.16)
        self.view.disableAutoRange()
        self.y_axis.setWidth(AXIS_WIDTH_PX)
        self.lines = MarkLines(self.view)
        self._cross = pg.InfiniteLine(angle=90, movable=False)
        self._cross.hide()
        item.addItem(self._cross, ignoreBounds=True)
        box = item.getViewBox()
        box.sigRangeChangedManually.connect(self._moved_by_hand)
        box.sigXRangeChanged.connect(self._view_changed)
        self.view.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.view.customContextMenuRequested.connect(self._menu)
        self.view.scene().sigMouseMoved.connect(self._mouse_moved)
        self._device = ScrollDevice()
        self.view.viewport().installEventFilter(self)
        theme.changed.connect(self.restyle)

    def set_spec(self, spec: PlotSpec) -> None:
        """Show other curves (the memory plot, once the measured memory is known)."""
        for item in self._items.values():
            self.view.removeItem(item)
        self.spec = spec
        self._items = {c.key: self._curve() for c in spec.curves}
        self._points = {c.key: EMPTY for c in spec.curves}
        title = f"{spec.title}, {spec.unit}" if spec.unit else spec.title
        old = self.legend
        entries = [Entry(c.label, c.color, c.dash, c.marker, c.faint) for c in spec.curves]
        self.legend = LegendRow(title, entries, self)
        self._column.replaceWidget(old, self.legend)
        old.deleteLater()
        self.view.setAccessibleName(f"Plot: {title}")
        self.restyle()

    def _curve(self) -> pg.PlotDataItem:
        item = self.view.plot([], [], connect="finite", antialias=False)
        item.setLogMode(False, self.log)
        return item

    # ------------------------------------------------------------ data

    def set_points(self, points: dict[str, Points], axis: Axis) -> None:
        """The full series of each curve; redraws what is in view."""
        if axis != self._axis:
            self.following = True
            self._axis = axis
            self._name_axis()
        self.x_axis.set_time(axis == "time")
        self._points = {key: points.get(key, EMPTY) for key in self._items}
        self.redraw()

    def set_placeholder(self, sentence: str) -> None:
        """What is shown while there are no points."""
        self._placeholder.setText(sentence)

    def placeholder(self) -> str:
        """The sentence that is shown in place of the axes; empty if there are points."""
        return "" if self._placeholder.isHidden() else self._placeholder.text()

    def clear(self) -> None:
        """Show nothing of any run."""
        self.following = True
        self.show_cross(None)
        self._tip = ""
        self.set_marks(NO_MARKS)
        for key, item in self._items.items():
            self._points[key] = EMPTY
            item.setData([], [])
        self._show_last()
        self._show_placeholder()

    def _show_placeholder(self) -> None:
        """A sentence in place of empty axes."""
        empty = not any(len(x) for x, _ in self._points.values())
        if empty:
            self._placeholder.setGeometry(self.view.geometry())
            self._placeholder.raise_()
        self._placeholder.setVisible(empty)

    def set_marks(self, marks: Marks) -> None:
        """Set the marks of the plot."""
        if marks == self.marks:
            return
        self.marks = marks
        self.lines.show(marks, large="eval_loss" in self._items)
        self.describe()

    def describe(self) -> None:
        """The curves and marks as text, for screen readers: where each curve begins and ends, and its lowest."""
        curves = (self._curve_words(spec) for spec in self.spec.curves)
        parts = [*filter(None, curves), *(tip for _, tip in self.marks.tips)]
        said = ". ".join(parts) or "No data"
        if said != self.view.accessibleDescription():
            self.view.setAccessibleDescription(said)

    def _curve_words(self, spec: CurveSpec) -> str:
        x, y = self._points[spec.key]
        known = np.flatnonzero(np.isfinite(y))
        if not len(known):
            return ""
        first, last, low = known[0], known[-1], known[np.argmin(y[known])]
        words_at = [
            f"{words.number_text(float(y[i]), 4)} at {self._where(x[i])}"
            for i in (first, last, low)
        ]
        if first == last:
            return f"{spec.label}: {words_at[0]}"
        return f"{spec.label}: from {words_at[0]} to {words_at[1]}, lowest {words_at[2]}"

    def _where(self, x: float) -> str:
        return words.duration(x) if self._axis == "time" else f"step {x:.0f}"

    def points(self, key: str) -> Points:
        """The full series of a curve, as given."""
        return self._points[key]

    def drawn(self, key: str) -> int:
        """The number of drawn points of a curve."""
        x = self._items[key].getOriginalDataset()[0]
        return 0 if x is None else len(x)

    def redraw(self) -> None:
        """Downsample the series to the pixels in view, fit the axes if following, and draw."""
        if not self.isVisible():
            return
        self._drawing = True
        if self.following:
            self._fit_x()
        left, right = self.view.viewRange()[0]
        columns = max(int(self.view.getViewBox().width()), 50)
        lowest, highest = np.inf, -np.inf
        for spec in self.spec.curves:
            x, y = self._points[spec.key]
            shown_x, shown_y = for_screen(x, y, left, right, columns)
            self._draw(spec, shown_x, shown_y, len(y))
            finite = shown_y[np.isfinite(shown_y) & ((shown_y > 0) | (not self.log))]
            if len(finite):
                lowest, highest = min(lowest, finite.min()), max(highest, finite.max())
        if self.following and lowest <= highest:
            self._fit_y(float(lowest), float(highest))
        self._show_placeholder()
        self._drawing = False
        if not self._cross.isVisible():
            self._show_last()
        if QAccessible.isActive():
            self.describe()

    def _draw(self, spec: CurveSpec, x: Any, y: Any, total: int) -> None:
        symbol = spec.marker if spec.marker and len(x) <= 200 else None
        if len(x) == 1 and not spec.faint:
            symbol = "o"
        color = style.color(spec)
        self._items[spec.key].setData(
            x,
            y,
            pen=style.pen(spec, total),
            symbol=symbol,
            symbolSize=MARKER_PX,
            symbolBrush=color,
            symbolPen=None,
            antialias=total <= style.WIDE_UP_TO_POINTS,
        )

    def _fit_x(self) -> None:
        ends = [(x[0], x[-1]) for x, _ in self._points.values() if len(x)]
        left, right = (min(e[0] for e in ends), max(e[1] for e in ends)) if ends else (0.0, 1.0)
        pad = (right - left) * X_PADDING or 0.5
        self.view.setXRange(float(left - pad), float(right + pad), padding=0)

    def _fit_y(self, lowest: float, highest: float) -> None:
        if self.log:
            lowest, highest = float(np.log10(lowest)), float(np.log10(highest))
        elif self.spec.from_zero:
            lowest = min(0.0, lowest)
        span = highest - lowest or abs(highest) * 0.2 or 1.0
        bottom = lowest - (0 if self.spec.from_zero and lowest == 0 else span * Y_PADDING)
        self.view.setYRange(bottom, highest + span * Y_PADDING, padding=0)

    # ------------------------------------------------------------ view

    def set_log(self, on: bool) -> None:
        """Set a logarithmic or linear axis."""
        self.log = on
        self.view.getPlotItem().setLogMode(y=on)
        self.reset_view()

    def reset_view(self) -> None:
        """Show all points, and follow new ones."""
        self.following = True
        self.redraw()

    def resizeEvent(self, event: Any) -> None:
        """Qt: label the horizontal axis if there is enough height."""
        super().resizeEvent(event)
        self._name_axis()
        self._placeholder.setGeometry(self.view.geometry())

    def _name_axis(self) -> None:
        name = self._axis
        roomy = self.height() >= LABEL_FROM_HEIGHT_PX
        self.x_axis.setLabel(name if roomy else None)
        self.x_axis.showLabel(roomy)

    def _moved_by_hand(self) -> None:
        self.following = False

    def _view_changed(self) -> None:
        if not self._drawing:
            self.redraw()

    def _menu(self, position: QPoint) -> None:
        self.menu_wanted.emit(self.view.mapToGlobal(position))

    # ------------------------------------------------------------ crosshair

    def show_cross(self, x: float | None) -> None:
        """Set the crosshair to an x and show the values of all curves there; ``None`` hides it."""
        self._cross.setVisible(x is not None)
        if x is None:
            self._show_last()
            return
        self._cross.setValue(x)
        values = [self._value_at(c.key, x) for c in self.spec.curves]
        self.legend.set_values(
            [words.number_text(v, 4) if v is not None else "" for v in values], self._where(x)
        )

    def _show_last(self) -> None:
        lasts = [y[-1] if len(y) else None for _, y in (self._points[k] for k in self._items)]
        self.legend.set_values([words.number_text(v, 4) if v is not None else "" for v in lasts])

    def _value_at(self, key: str, x: float) -> float | None:
        xs, ys = self._points[key]
        if not len(xs):
            return None
        after = int(np.clip(np.searchsorted(xs, x), 0, len(xs) - 1))
        before = max(after - 1, 0)
        nearest = before if abs(xs[before] - x) <= abs(xs[after] - x) else after
        return float(ys[nearest])

    def _mouse_moved(self, position: Any) -> None:
        box = self.view.getViewBox()
        inside = box.sceneBoundingRect().contains(position)
        x = box.mapSceneToView(position).x() if inside else None
        if x is not None and self._axis == "step":
            self._tip = self.marks.tip_at(x, REACH_PX * box.viewPixelSize()[0])
            x = round(x)
        self.show_cross(x)
        self.hovered.emit(x)

    def eventFilter(self, watched: Any, event: QEvent) -> bool:
        """Qt: hide the crosshair when the mouse leaves; a double click resets the view."""
        if isinstance(event, QHelpEvent) and event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), plain_tip(self._tip), self.view)
            return True
        if event.type() == QEvent.Type.Leave:
            self.show_cross(None)
            self.hovered.emit(None)
        elif event.type() == QEvent.Type.MouseButtonDblClick:
            self.reset_view()
            return True
        elif isinstance(event, QWheelEvent) and self._panned(event):
            return True
        elif isinstance(event, QNativeGestureEvent):
            self._pinched(event)
            return True
        return super().eventFilter(watched, event)

    def _panned(self, event: QWheelEvent) -> bool:
        """Two fingers on a touchpad pan; a wheel, or Ctrl, zooms as pyqtgraph does."""
        touchpad = self._device.is_touchpad(event)
        self._moved_by_hand()  # first: a plot that follows would show everything again
        if not touchpad or event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            return False
        box, shift = self.view.getViewBox(), self._device.shift(event)
        wide, high = box.viewPixelSize()
        box.translateBy(x=-shift.x() * wide, y=shift.y() * high)
        return True

    def _pinched(self, event: QNativeGestureEvent) -> None:
        """Zoom at the fingers."""
        if event.gestureType() != Qt.NativeGestureType.ZoomNativeGesture:
            return
        box = self.view.getViewBox()
        at = box.mapSceneToView(self.view.mapToScene(event.position().toPoint()))
        factor = 1.0 / max(MIN_PINCH, 1.0 + event.value())
        self._moved_by_hand()
        box.scaleBy((factor, factor), at)

    def showEvent(self, event: Any) -> None:
        """Qt: draw the data that arrived while hidden."""
        super().showEvent(event)
        self.redraw()

    # ------------------------------------------------------------ looks

    def restyle(self) -> None:
        """Apply the colours of the theme."""
        look = style.look()
        self.view.setBackground(look.background)
        font = QFont(self.font())
        font.setPointSizeF(font.pointSizeF() * AXIS_FONT_SHARE)
        for axis in (self.x_axis, self.y_axis):
            axis.setPen(pg.mkPen(look.border_strong))
            axis.setTextPen(pg.mkPen(look.text_muted))
            axis.setStyle(tickFont=font, tickLength=-4, maxTickLevel=1)
        self.x_axis.label.setFont(font)
        faint = QColor(look.text_muted)
        faint.setAlpha(150)
        self.lines.restyle()
        self._cross.setPen(pg.mkPen(faint))
        self.redraw()
        self.legend.update()
