"""The curves of a run: values at the top, a large plot of the loss, the other plots next to it.

``show_state`` sets the run, ``refresh`` requests an update; the panel draws at most ten times a
second and only while it is visible. It reads a ``RunState`` and follows no events or files itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from PySide6.QtCore import QTimer, Signal
from PySide6.QtWidgets import QHBoxLayout, QLabel, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from studio.runs.progress import Progress
from studio.runs.state import RunState
from studio.runs.status import ACTIVE, RunView
from ui.monitor.curves import LOSS, RAM, SMALL, Axis, CurveFeed, memory_spec
from ui.monitor.grid import PlotGrid
from ui.monitor.header import HeaderLine
from ui.monitor.loss_place import LossPlace
from ui.monitor.marks import NO_MARKS, marks_of
from ui.monitor.plot import LivePlot
from ui.monitor.plot_menu import fill_save_menu, show_menu
from ui.monitor.tools import PlotTools

MANY_POINTS = 20_000
DRAW_EVERY_MS = 100
DRAW_AT_LEAST_EVERY_MS = 1000
DRAW_SHARE = 0.2
"""The share of the time that drawing may take: a run of many points is drawn less often."""
NEXT_PLOT_MS = 12
ELAPSED_EVERY_MS = 1000
NO_VALUES, NO_VALUES_YET = "This run has no such values.", "No values yet."
EMPTY_TEXT = "Press Run to see loss, speed and memory here, or open an earlier run from the list."


def plots() -> Iterator[LivePlot]:
    """Make the plots of a panel one after the other."""
    return map(LivePlot, (LOSS, RAM, *SMALL))


class MonitorPanel(QWidget):
    """Live curves of one run, or of an earlier one that was opened again, in ``plots`` that may have been made before.

    ``run_wanted`` carries the folder of another run whose curves the user requests.
    """

    run_wanted = Signal(object)

    def __init__(
        self, parent: QWidget | None = None, made: Sequence[LivePlot] | None = None
    ) -> None:
        super().__init__(parent)
        self._state: RunState | None = None
        self._node: str | None = None
        self._marks = NO_MARKS
        self._axis: Axis = "step"
        self._feed = CurveFeed()
        self._draw_timer = QTimer(self, singleShot=True, interval=DRAW_EVERY_MS)
        self._draw_timer.timeout.connect(self._begin_drawing)
        self._due: list[LivePlot] = []
        self._drawing_ms = 0.0
        self._next_timer = QTimer(self, singleShot=True, interval=NEXT_PLOT_MS)
        self._next_timer.timeout.connect(self._draw_next)
        self._clock = QTimer(self, interval=ELAPSED_EVERY_MS)
        self._clock.timeout.connect(self._tick)
        self.header = HeaderLine(self)
        self.tools = PlotTools(self)
        self.loss, *self.small = made or plots()
        self._room: Callable[[], int] = lambda: self.width() // 2  # the header needs the other half
        self._build()
        self._connect()

    @property
    def plots(self) -> tuple[LivePlot, ...]:
        """Every plot, the loss first."""
        return (self.loss, *self.small)

    def plot(self, key: str) -> LivePlot:
        """The plot with this key: loss, learning_rate, grad_norm, tokens_per_s, memory."""
        return next(p for p in self.plots if p.spec.key == key)

    def _build(self) -> None:
        """From the outside to the inside: a widget that gets another parent is styled again with all plots in it."""
        self._stack = QStackedWidget(self)
        self._empty = QLabel(EMPTY_TEXT, self._stack)
        self._empty.setAlignment(self._empty.alignment().AlignCenter)
        self._empty.setForegroundRole(self._empty.palette().ColorRole.PlaceholderText)
        self._empty.setWordWrap(True)
        self._empty.setContentsMargins(24, 0, 24, 0)
        self._empty.setMinimumWidth(60)
        curves = QWidget(self._stack)
        self._top = QHBoxLayout()
        self._top.setContentsMargins(0, 2, 4, 0)
        self._top.addWidget(self.header, 1)
        self._top.addWidget(self.tools)
        split = QSplitter(curves)
        split.setChildrenCollapsible(False)
        self._loss_place = LossPlace(self.loss, split)
        self._loss_place.run_wanted.connect(self.run_wanted)
        split.addWidget(self._loss_place)
        split.addWidget(PlotGrid(self.small, split))
        split.setStretchFactor(0, 1)
        split.setStretchFactor(1, 1)
        split.setSizes([500, 500])
        inside = QVBoxLayout(curves)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(2)
        inside.addLayout(self._top)
        inside.addWidget(split, 1)
        self._stack.addWidget(self._empty)
        self._stack.addWidget(curves)
        outside = QVBoxLayout(self)
        outside.setContentsMargins(0, 0, 0, 0)
        outside.addWidget(self._stack)

    def take_tools(self, room: Callable[[], int]) -> PlotTools:
        """Return the controls, to be placed next to the tabs, where ``room`` pixels are free."""
        self._top.removeWidget(self.tools)
        self._room = room
        return self.tools

    def fit_tools(self) -> None:
        """Show the controls for which there is room."""
        self.tools.set_room(self._room())

    def _connect(self) -> None:
        self.tools.smoothing_changed.connect(self._set_smoothing)
        self.tools.axis_changed.connect(self._set_axis)
        self.tools.log_changed.connect(self.loss.set_log)
        self.tools.reset_wanted.connect(self.reset_view)
        self.tools.node_changed.connect(self._choose_node)
        menu = self.tools.save_menu  # filled when it opens: the memory plot changes
        menu.aboutToShow.connect(lambda: fill_save_menu(menu, self.plots, self))
        for plot in self.plots:
            plot.hovered.connect(self._share_cross)
            plot.menu_wanted.connect(self._menu)

    # ------------------------------------------------------------ data

    def show_state(self, state: RunState | None) -> None:
        """Show this run; ``None`` shows the empty text."""
        self._state = state
        self._node = None
        self.header.use_view(None)
        self._feed = CurveFeed()
        self._feed.factor = self.tools.smoothing()
        self._due = []  # plots that wait for the points of another run
        for plot in self.plots:
            plot.clear()
        self._marks = NO_MARKS
        if state is None:
            self.tools.set_nodes({}, None)
        points = sum(len(s.step) for s in state.metrics.values()) if state else 0
        self.draw_now() if points < MANY_POINTS else self._begin_drawing()

    def show_progress(self, progress: Progress | None) -> None:
        """Show the progress of the run in the line above the curves."""
        self.header.show_progress(progress)

    def show_view(self, view: RunView | None) -> None:
        """Show the status of the run in its header."""
        self.header.use_view(view)
        if view is not None and self._state is not None and self.isVisible():
            self.header.show_state(self._state, self._node)

    def show_reading(self, fraction: float) -> None:
        """Show how much of the events of the run has been read."""
        if self.isVisible():
            self.header.show_reading(fraction)

    def refresh(self) -> None:
        """Schedule an update for new data of the run."""
        if not self._draw_timer.isActive():
            self._draw_timer.start()

    def draw_now(self) -> None:
        """Update everything immediately, if visible."""
        state = self._show_header()
        if state is not None:
            self._due = []
            for plot in self.plots:
                self._draw(plot, state)

    def _begin_drawing(self) -> None:
        """Update one plot after the other, so that the window stays responsive."""
        if self._due:
            self.refresh()  # plots that were drawn already have to be drawn again
        elif self._show_header() is not None:
            self._due = list(self.plots)
            self._drawing_ms = 0.0
            self._draw_next()

    def _draw_next(self) -> None:
        if self._due and self._state is not None:
            began = time.perf_counter()
            self._draw(self._due.pop(0), self._state)
            self._drawing_ms += (time.perf_counter() - began) * 1000
        if self._due:
            self._next_timer.start()
            return
        rest = min(self._drawing_ms / DRAW_SHARE, DRAW_AT_LEAST_EVERY_MS)
        self._draw_timer.setInterval(round(max(DRAW_EVERY_MS, rest)))

    def _show_header(self) -> RunState | None:
        """Update the header and the controls; returns the state to draw, or ``None``."""
        if not self.isVisible():
            return None
        state = self._state
        self._stack.setCurrentIndex(0 if state is None else 1)
        running = state is not None and state.status == "running"
        self._clock.start() if running else self._clock.stop()
        if state is None:
            return None
        self._follow_nodes(state)
        self._marks = marks_of(state, self._node)
        for plot in self.plots:
            plot.set_placeholder(NO_VALUES_YET if state.status in ACTIVE else NO_VALUES)
        self.header.show_state(state, self._node)
        self._loss_place.look(state, self._node is not None)
        memory = self.plot("memory")
        wanted = memory_spec(state)
        if memory.spec is not wanted:
            memory.set_spec(wanted)
        return state

    def _draw(self, plot: LivePlot, state: RunState) -> None:
        axis = "time" if plot.spec.axis == "time" else self._axis
        node = self._node or ""
        keys = [c.key for c in plot.spec.curves]
        plot.set_points({k: self._feed.points(state, node, k, axis) for k in keys}, axis)
        plot.set_marks(self._marks if axis == "step" else NO_MARKS)

    def _follow_nodes(self, state: RunState) -> None:
        trained = [n for n, series in state.metrics.items() if series.step or series.eval_step]
        if self._node not in trained:
            self._node = trained[-1] if trained else None
        titles = {n: self._title(n) for n in trained}
        self.tools.set_nodes(titles, self._node)

    def _title(self, node: str) -> str:
        known = self._state.nodes.get(node) if self._state else None
        return known.title if known else node

    # ------------------------------------------------------------ user actions

    def reset_view(self) -> None:
        """Reset the view of every plot."""
        for plot in self.plots:
            plot.reset_view()

    def _set_smoothing(self, factor: float) -> None:
        self._feed.factor = factor
        self.refresh()

    def _set_axis(self, axis: Axis) -> None:
        self._axis = axis
        self.draw_now()

    def _choose_node(self, node: str) -> None:
        self._node = node
        self.reset_view()
        self.draw_now()

    def _share_cross(self, x: float | None) -> None:
        sender = self.sender()
        if not isinstance(sender, LivePlot):
            return
        for plot in self.plots:
            if plot is not sender and plot.x_axis.time == sender.x_axis.time:
                plot.show_cross(x)

    def _menu(self, position: Any) -> None:
        plot = self.sender()
        if isinstance(plot, LivePlot):
            show_menu(plot, self, position)

    def _tick(self) -> None:
        if self.isVisible() and self._state is not None:
            self.header.show_state(self._state, self._node)

    def resizeEvent(self, event: Any) -> None:
        """Qt: leave space for the tabs next to the controls."""
        super().resizeEvent(event)
        self.fit_tools()

    def showEvent(self, event: Any) -> None:
        """Qt: draw the data that arrived while hidden."""
        super().showEvent(event)
        self.refresh()
