"""The layout of the main window; ``ui.window.session`` links its parts.

Canvas in the middle, nodes and runs left, inspector right, curves, log and results below. The
curves are made after the first paint (``ui.window.opening``), because pyqtgraph takes a third of a second to load.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QRect, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QCloseEvent, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import (
    QDockWidget,
    QMainWindow,
    QMenu,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from studio.graph import guide
from studio.graph.document import Document
from studio.graph.project import is_project
from studio.graph.registry import Registry
from ui.canvas.palette import NodePalette
from ui.canvas.template_strip import TemplateStrip
from ui.canvas.view import CanvasView
from ui.inspector.panel import InspectorPanel
from ui.monitor.insight import InsightPanel
from ui.monitor.log import LogPanel
from ui.monitor.results import ResultsPanel
from ui.monitor.runs_list import RunsPanel
from ui.monitor.samples import SamplesPanel
from ui.monitor.tools import LEAST_NODES_PX
from ui.style import icons, theme
from ui.style.guide_link import explain
from ui.style.widgets import FRAME
from ui.window.actions import fill_menus, make_actions, make_tool_bar
from ui.window.banner import Banner
from ui.window.status import StatusStrip

if TYPE_CHECKING:
    from ui.monitor.panel import MonitorPanel

FIRST_SIZE = QSize(1280, 800)
LARGEST = QSize(1760, 1050)
SCREEN_SHARE = 0.92
WIDE_SHARE, LEAST_WIDE_SHARE = 0.55, 0.45
LEFT_LEAST_PX = 150
FIRST_PAINT_MS = 400
TABS_MARGIN_PX = 8
LEAST_PANEL_PX = 240
CURVES, LOG, RESULTS, INSIGHT, SAMPLES = range(5)
Area = Qt.DockWidgetArea


class MainWindow(QMainWindow):
    """All parts of the window.

    ``shown_first`` is emitted once, after the first paint. ``may_close`` decides whether the window
    closes; ``closing`` is emitted when it does. ``project_dropped`` carries a path."""

    shown_first = Signal()
    closing = Signal()
    project_dropped = Signal(object)

    def __init__(self, document: Document, registry: Registry, runs_dir: Path) -> None:
        super().__init__()
        self.setObjectName("main-window")
        self.may_close: Callable[[], bool] = lambda: True
        self._painted = False
        self._left_px = 0
        self.canvas = CanvasView(document, registry, self)
        self.templates = TemplateStrip(self.canvas)
        self.palette_panel = NodePalette(registry, self)
        self.runs = RunsPanel(runs_dir, self)
        self.runs.setMinimumWidth(LEFT_LEAST_PX)
        self.inspector = InspectorPanel(document, registry, self)
        self.monitor: MonitorPanel | None = None
        self.log = LogPanel(self)
        self.results = ResultsPanel(self)
        self.insight = InsightPanel(self)
        self.samples = SamplesPanel(self)
        self.status = StatusStrip(self)
        for part, widget in self._explained().items():
            explain(widget, guide.PARTS[part])
        self.own = make_actions(self)
        self.recent_menu = QMenu("Open Recent", self)
        self._build()

    def _explained(self) -> dict[str, QWidget]:
        """The parts that have a page in the guide."""
        return {
            "canvas": self.canvas,
            "palette": self.palette_panel,
            "runs": self.runs,
            "log": self.log,
            "results": self.results,
            "insight": self.insight,
            "samples": self.samples,
        }

    def _build(self) -> None:
        self.setDockOptions(
            QMainWindow.DockOption.AnimatedDocks | QMainWindow.DockOption.AllowTabbedDocks
        )
        self.setCorner(Qt.Corner.BottomRightCorner, Area.RightDockWidgetArea)
        self.setCorner(Qt.Corner.BottomLeftCorner, Area.LeftDockWidgetArea)
        self.setAcceptDrops(True)
        middle = QWidget(self)
        column = QVBoxLayout(middle)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.canvas, 1)
        self.banner = Banner(middle)
        self.banner.covers.connect(self._banner_covers)
        self.setCentralWidget(middle)
        self.tabs = self._make_tabs()
        self.docks = {
            "nodes": self._dock("nodes", "Nodes", self.palette_panel, Area.LeftDockWidgetArea),
            "runs": self._dock("runs", "Runs", self.runs, Area.LeftDockWidgetArea),
            "inspector": self._dock(
                "inspector", "Inspector", self.inspector, Area.RightDockWidgetArea
            ),
            "monitor": self._dock("monitor", "Run", self.tabs, Area.BottomDockWidgetArea),
        }
        self.docks["monitor"].toggleViewAction().setText("Curves, Log and Results")
        self.docks["monitor"].setTitleBarWidget(QWidget(self))  # its tabs are its title
        self.setStatusBar(self.status)
        canvas_actions = self.canvas.actions()
        fill_menus(self, self.own, canvas_actions, self._panel_actions(), self.recent_menu)
        self.tool_bar = make_tool_bar(self, self.own, canvas_actions)
        icons.put(self.recent_menu.menuAction(), "history")
        theme.changed.connect(self._color)
        self._color()

    def _banner_covers(self, pixels: int) -> None:
        self.canvas.camera.covered_px = pixels

    def _color(self) -> None:
        """Highlight the Run button."""
        look = theme.colors()
        soft = theme.blend(look.surface, look.success, 0.16).name()
        hover = theme.blend(look.surface, look.success, 0.28).name()
        self.tool_bar.setStyleSheet(
            f"#run-button {{ background: {soft}; font-weight: 600; padding: 5px 12px; }}"
            f"#run-button:hover {{ background: {hover}; }}"
            "#run-button:disabled { background: transparent; }"
            f"#run-button:focus {{ border-color: {look.accent.name()}; }}"
        )

    def _make_tabs(self) -> QTabWidget:
        tabs = QTabWidget(self)
        tabs.setDocumentMode(True)
        tabs.setAccessibleName("Curves, log and results")
        tabs.tabBar().setDrawBase(False)
        self._curves_place = QWidget(self)
        explain(self._curves_place, guide.PARTS["curves"])
        self._curves_column = QVBoxLayout(self._curves_place)
        self._curves_column.setContentsMargins(0, 0, 0, 0)
        tabs.addTab(self._curves_place, "Curves")
        tabs.addTab(self.log, "Log")
        tabs.addTab(self.results, "Results")
        tabs.addTab(self.insight, "Insight")
        tabs.addTab(self.samples, "Samples")
        return tabs

    def _dock(self, name: str, title: str, widget: QWidget, area: Area) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(name)
        dock.setWidget(widget)
        self.addDockWidget(area, dock)
        return dock

    def _panel_actions(self) -> Sequence[QAction]:
        return [dock.toggleViewAction() for dock in self.docks.values()]

    def make_monitor(self) -> Iterator[None]:
        """Make the curves, one plot in each step; each takes some hundredths of a second."""
        from ui.monitor.panel import MonitorPanel, plots

        made = []
        for plot in plots():
            made.append(plot)
            yield
        self.monitor = MonitorPanel(self._curves_place, made)
        self._curves_column.addWidget(self.monitor)
        self.tabs.setCornerWidget(self.monitor.take_tools(self._beside_tabs))
        self.tabs.currentChanged.connect(self._tab_changed)
        self._tab_changed(self.tabs.currentIndex())

    def _beside_tabs(self) -> int:
        return self.tabs.width() - self.tabs.tabBar().sizeHint().width() - TABS_MARGIN_PX

    def show_result_count(self, count: int) -> None:
        """Show the number of results in the title of their tab."""
        self.tabs.setTabText(RESULTS, f"Results ({count})" if count else "Results")
        if self.monitor is not None:
            self.monitor.fit_tools()

    def _tab_changed(self, index: int) -> None:
        """Show the controls of the curves with the curves only."""
        if self.monitor is not None:
            self.monitor.tools.setVisible(index == CURVES)

    # ------------------------------------------------------------ sizes

    def place(self, available: QRect) -> None:
        """Set size and position on the first start; on a small screen the window fills it."""
        wanted = available.size() * SCREEN_SHARE
        size = wanted.expandedTo(FIRST_SIZE).boundedTo(LARGEST).boundedTo(available.size())
        place = QRect(available.topLeft(), size)
        place.moveCenter(available.center())
        self.setGeometry(place)
        if (FIRST_SIZE + FRAME).boundedTo(available.size()) != FIRST_SIZE + FRAME:
            self.setWindowState(Qt.WindowState.WindowMaximized)
        self.share_space(size)

    def share_space(self, size: QSize) -> None:
        """Set the initial sizes of the docks."""
        left = min(max(round(size.width() * 0.155), 200), 260)
        right = min(max(round(size.width() * 0.235), 290), 400)
        sides = [self.docks["nodes"], self.docks["inspector"]]
        self.resizeDocks(sides, [left, right], Qt.Orientation.Horizontal)
        below = _panel_px(size)
        self.resizeDocks([self.docks["monitor"]], [below], Qt.Orientation.Vertical)
        pair = [self.docks["nodes"], self.docks["runs"]]
        self.resizeDocks(
            pair, [round(size.height() * 0.6), round(size.height() * 0.35)], Qt.Orientation.Vertical
        )

    def widen_inspector(self, wide: bool, narrow_px: int) -> int:
        """Widen the inspector to more than half of the window, or restore its width; returns the
        previous width."""
        dock, left = self.docks["inspector"], self.docks["nodes"]
        before = dock.width()
        if wide:
            self._left_px = left.width()  # a wide inspector may take some of it
        wanted = self._wide_px(left.width()) if wide else narrow_px
        widths = [wanted, self._left_px or left.width()]
        self.resizeDocks([dock, left], widths, Qt.Orientation.Horizontal)
        return before

    def _wide_px(self, left: int) -> int:
        """The width of a wide inspector: its usual share of the window, or less, but not below its least share, so
        that all tabs of the lower dock stay in view, also with a number of results and a choice of trainings."""
        bar = self.tabs.tabBar()
        count = bar.fontMetrics().horizontalAdvance(" (000)")
        tabs = bar.sizeHint().width() + count + LEAST_NODES_PX + 2 * TABS_MARGIN_PX
        wanted = min(round(self.width() * WIDE_SHARE), self.width() - left - tabs)
        return max(wanted, round(self.width() * LEAST_WIDE_SHARE))

    def show_tab(self, index: int) -> None:
        """Bring a tab of the lower dock to the front."""
        self.open_panel()
        self.tabs.setCurrentIndex(index)

    def open_panel(self) -> None:
        """Show the lower dock, high enough for its plots."""
        dock = self.docks["monitor"]
        if dock.isHidden():
            dock.show()
            if dock.height() < LEAST_PANEL_PX:
                self.resizeDocks([dock], [_panel_px(self.size())], Qt.Orientation.Vertical)

    # ------------------------------------------------------------ Qt

    def paintEvent(self, event: Any) -> None:
        """Qt: emit ``shown_first`` once."""
        super().paintEvent(event)
        self._tell_shown()

    def showEvent(self, event: Any) -> None:
        """Qt: a window that is completely covered by its parts may never be painted itself."""
        super().showEvent(event)
        QTimer.singleShot(FIRST_PAINT_MS, self, self._tell_shown)

    def _tell_shown(self) -> None:
        if not self._painted:
            self._painted = True
            self.shown_first.emit()

    def closeEvent(self, event: QCloseEvent) -> None:
        """Qt: close if that is allowed."""
        if not self.may_close():
            event.ignore()
            return
        self.closing.emit()
        event.accept()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Qt: a project may be dropped anywhere."""
        if _project_in(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Qt: open the dropped project."""
        path = _project_in(event)
        if path is not None:
            event.acceptProposedAction()
            self.project_dropped.emit(path)


def _panel_px(window: QSize) -> int:
    """The initial height of the lower dock."""
    return min(max(round(window.height() * 0.35), LEAST_PANEL_PX), 420)


def _project_in(event: QDropEvent) -> Path | None:
    paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
    return next((p for p in paths if is_project(p)), None)
