"""The Insight tab: the change of every layer by the adapter, the singular directions it uses, and
advice.

A grid of layers that is updated during training, a slider over the steps, and advice that follows
from the numbers. It reads a ``RunState`` and computes nothing about matrices.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QBoxLayout,
    QComboBox,
    QHBoxLayout,
    QLabel,
    QSlider,
    QStackedWidget,
    QVBoxLayout,
    QWidget,
)

from studio.graph import guide
from studio.runs.insight import ENERGY, Insight, ModuleUse, advice, parts
from studio.runs.state import RunState
from ui.monitor.heat_map import Cell, HeatMap
from ui.style.guide_link import GuideLink
from ui.style.widgets import MutedLabel, TextLabel, scrolling

EMPTY_TEXT = (
    "This tab shows the change of each layer while an adapter is trained:\n"
    "its size and the number of singular directions that it uses."
)
SIZE, DIRECTIONS = "size", "directions"
MEASURES = (
    ("Relative size of the change", "The norm of the change, in % of the weight's norm", SIZE),
    (
        "Singular directions used",
        f"How many singular directions account for {100 * ENERGY:.0f} % of the change",
        DIRECTIONS,
    ),
)
_ADVICE_PX = 300
LEAST_LETTERS = 12


class InsightPanel(QWidget):
    """The insight of one run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("insight")
        self._state: RunState | None = None
        self._known = 0
        self.map = HeatMap(self)
        self.map.setAccessibleName("Change per layer")
        self.measure = QComboBox(self)
        self.measure.setObjectName("insight-measure")
        self.measure.setAccessibleName("Color by")
        for words, tip, measure in MEASURES:
            self.measure.addItem(words, measure)
            self.measure.setItemData(self.measure.count() - 1, tip, Qt.ItemDataRole.ToolTipRole)
        self.measure.currentIndexChanged.connect(self._draw)
        whole = self.measure.sizeHint().width()
        self.measure.setMaximumWidth(whole)  # it may become narrower
        self.measure.view().setMinimumWidth(whole)
        self.measure.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.measure.setMinimumContentsLength(LEAST_LETTERS)
        self.slider = QSlider(Qt.Orientation.Horizontal, self)
        self.slider.setObjectName("insight-step")
        self.slider.setAccessibleName("Training step")
        self.slider.valueChanged.connect(self._draw)
        self.step = QLabel(self)
        self.read_out = MutedLabel("", self)
        self.advice = TextLabel("", self)
        self.advice.setObjectName("advice")
        self.advice.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.map.pointed.connect(self._point)
        self._stack = QStackedWidget(self)
        self._stack.addWidget(self._empty())
        self._stack.addWidget(self._full())
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._stack)

    def show_state(self, state: RunState | None) -> None:
        """Show this run; ``None`` shows the empty text."""
        self._state, self._known = state, 0
        self.refresh()

    def refresh(self) -> None:
        """Show new data; a slider at its end follows the run."""
        found = self._insights()
        self._stack.setCurrentIndex(1 if found else 0)
        if not found:
            return
        at_end = self.slider.value() >= self._known - 1
        self._known = len(found)
        self.slider.blockSignals(True)
        self.slider.setRange(0, len(found) - 1)
        self.slider.setValue(len(found) - 1 if at_end else self.slider.value())
        self.slider.blockSignals(False)
        self.slider.setEnabled(len(found) > 1)
        self._draw()

    def shown(self) -> Insight | None:
        """The insight that the grid shows."""
        found = self._insights()
        return found[min(self.slider.value(), len(found) - 1)] if found else None

    # ------------------------------------------------------------ parts

    def _insights(self) -> Sequence[Insight]:
        return self._state.insights if self._state is not None else ()

    def _empty(self) -> QWidget:
        label = QLabel(EMPTY_TEXT, self)
        label.setAlignment(Qt.AlignmentFlag.AlignCenter)
        label.setForegroundRole(label.palette().ColorRole.PlaceholderText)
        label.setWordWrap(True)
        return label

    def _full(self) -> QWidget:
        top = QHBoxLayout()
        top.setSpacing(10)
        for widget in (self.measure, QLabel("Step", self), self.slider, self.step):
            top.addWidget(widget, {self.measure: 3, self.slider: 1}.get(widget, 0))
        left = QVBoxLayout()
        left.setContentsMargins(10, 8, 6, 6)
        left.setSpacing(2)
        left.addLayout(top)
        left.addWidget(self.map, 1)
        left.addWidget(self.read_out)
        self._side = QWidget(self)
        right = QVBoxLayout(self._side)
        right.setContentsMargins(8, 10, 12, 8)
        right.addWidget(self.advice)
        right.addWidget(GuideLink(guide.PARTS["insight"], self._side))
        right.addStretch(1)
        page = QWidget(self)
        self._parts = QBoxLayout(QBoxLayout.Direction.LeftToRight, page)
        self._parts.setContentsMargins(0, 0, 0, 0)
        self._parts.addLayout(left, 3)
        self._parts.addWidget(self._side, 1)
        return scrolling(page, self)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt: the advice is beside the map, or below it where the panel is narrow."""
        super().resizeEvent(event)
        narrow = self.width() < 2 * _ADVICE_PX
        way = QBoxLayout.Direction
        self._parts.setDirection(way.TopToBottom if narrow else way.LeftToRight)
        self._side.setMaximumWidth(self.width() if narrow else _ADVICE_PX)

    def _draw(self) -> None:
        insight = self.shown()
        if insight is None:
            return
        self.step.setText(str(insight.step))
        rows, columns, cells = grid_of(insight, str(self.measure.currentData()))
        self.map.show_cells(rows, columns, cells)
        self.advice.setText("\n\n".join(advice(insight)))
        self._point("")

    def _point(self, tip: str) -> None:
        self.read_out.setText(tip or "Hover over a cell to see its values.")


def grid_of(insight: Insight, measure: str) -> tuple[list[str], list[str], list[list[Cell | None]]]:
    """Titles of rows (parts of a layer) and columns (layers), and the cells."""
    rows = parts(insight.modules)
    layers = sorted({m.layer for m in insight.modules}, key=lambda n: -1 if n is None else n)
    largest = max((_value(m, measure) for m in insight.modules), default=0.0) or 1.0
    found = {(m.part, m.layer): _cell(m, measure, largest) for m in insight.modules}
    cells = [[found.get((row, layer)) for layer in layers] for row in rows]
    titles = ["" if n is None else str(n) for n in layers]
    return [row.rpartition(".")[2] for row in rows], titles, cells


def _value(module: ModuleUse, measure: str) -> float:
    if measure == DIRECTIONS:
        return module.used / max(1, module.r)
    return module.relative if module.relative is not None else module.norm


def _cell(module: ModuleUse, measure: str, largest: float) -> Cell:
    value = _value(module, measure)
    text = str(module.used) if measure == DIRECTIONS else _sized(module)
    share = (
        f" ({100 * module.relative:.2f} % of the weight's norm)"
        if module.relative is not None
        else ""
    )
    tip = (
        f"{module.name}: norm of the change {module.norm:.3g}{share}; {module.used} of {module.r} "
        f"singular directions account for {100 * ENERGY:.0f} % of it"
    )
    scale = 1.0 if measure == DIRECTIONS else largest
    return Cell(value / scale, text, tip)


def _sized(module: ModuleUse) -> str:
    if module.relative is None:
        return f"{module.norm:.2g}"
    return f"{100 * module.relative:.1f}"
