"""The controls above the curves: smoothing, axis, log scale, reset, saving, training.

They only emit the user's choices.
"""

from __future__ import annotations

from PySide6.QtCore import QSize, Qt, Signal
from PySide6.QtWidgets import QComboBox, QHBoxLayout, QLabel, QMenu, QSlider, QToolButton, QWidget

from ui.style import icons

DEFAULT_SMOOTHING = 0.6
LEAST_NODES_PX = 60


class PlotTools(QWidget):
    """One row of controls."""

    smoothing_changed = Signal(object)
    axis_changed = Signal(object)
    log_changed = Signal(object)
    reset_wanted = Signal()
    node_changed = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._row = layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        self._room = 1 << 14
        self.nodes = QComboBox(self)
        self.nodes.setAccessibleName("Training to show")
        self.nodes.hide()
        self.nodes.activated.connect(self._node_chosen)
        self.slider = self._slider()
        self._value = QLabel(self)
        self._value.setFixedWidth(self.fontMetrics().horizontalAdvance("0.00") + 4)
        self.axis = QComboBox(self)
        self.axis.addItem("by step", "step")
        self.axis.addItem("by time", "time")
        self.axis.setToolTip("Quantity on the horizontal axis")
        self.axis.setAccessibleName("Horizontal axis")
        self.axis.activated.connect(self._axis_chosen)
        self.log = self._button("Log Axis", "Logarithmic loss axis", checkable=True)
        self.log.toggled.connect(self.log_changed.emit)
        self.reset = self._button("", "Reset the view and follow new data (double-click)")
        icons.put(self.reset, "maximize")
        self.reset.clicked.connect(self.reset_wanted)
        self.save = self._button("", "Save plots as PNG, SVG or CSV")
        icons.put(self.save, "download")
        self.save_menu = QMenu(self.save)
        self.save.setMenu(self.save_menu)
        self.save.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._caption = QLabel("Smoothing", self)
        self._caption.setForegroundRole(self._caption.palette().ColorRole.PlaceholderText)
        for part in (
            self.nodes,
            self._caption,
            self.slider,
            self._value,
            self.axis,
            self.log,
            self.reset,
            self.save,
        ):
            layout.addWidget(part)
        self._by_importance: tuple[tuple[QWidget, ...], ...] = (
            (self.reset,),
            (self.save,),
            (self.axis,),
            (self.slider,),
            (self.log,),
            (self._caption, self._value),
        )
        self._slid(self.slider.value())

    def _slider(self) -> QSlider:
        slider = QSlider(Qt.Orientation.Horizontal, self)
        slider.setRange(0, 99)
        slider.setValue(round(DEFAULT_SMOOTHING * 100))
        slider.setFixedWidth(60)
        slider.setToolTip("Smoothing of the loss curve; 0 disables it")
        slider.setAccessibleName("Smoothing")
        slider.valueChanged.connect(self._slid)
        return slider

    def _button(self, text: str, tip: str, checkable: bool = False) -> QToolButton:
        button = QToolButton(self)
        button.setText(text)
        button.setToolTip(tip)
        button.setAccessibleName(tip)
        button.setCheckable(checkable)
        button.setAutoRaise(True)
        return button

    def minimumSizeHint(self) -> QSize:
        """Qt: the controls that have no room are hidden, so that they never keep a window wide."""
        return QSize(0, super().minimumSizeHint().height())

    def set_room(self, room: int) -> None:
        """Show the controls that fit into ``room`` pixels, the most important first. A choice of
        trainings is always shown, if necessary narrow."""
        self._room = room
        spacing = self._row.spacing()
        room += spacing  # there is one less than parts
        if not self.nodes.isHidden():
            self.nodes.setMaximumWidth(max(room - 2 * spacing, LEAST_NODES_PX))
            room -= min(self.nodes.sizeHint().width(), self.nodes.maximumWidth()) + spacing
        for parts in self._by_importance:
            for part in parts:
                wide = max(part.sizeHint().width(), part.minimumWidth())
                room -= min(wide, part.maximumWidth()) + spacing
            for part in parts:
                part.setVisible(room >= 0)

    def smoothing(self) -> float:
        """The factor of the moving average, 0 to 0.99."""
        return self.slider.value() / 100

    def set_nodes(self, titles: dict[str, str], chosen: str | None) -> None:
        """Show a list of trainings if a run has several."""
        known = {self.nodes.itemData(i): self.nodes.itemText(i) for i in range(self.nodes.count())}
        if known != titles:
            self.nodes.clear()
            for node, title in titles.items():
                self.nodes.addItem(title, node)
            self.nodes.setVisible(len(titles) > 1)
            self.set_room(self._room)
        self.nodes.setCurrentIndex(self.nodes.findData(chosen))

    def _slid(self, value: int) -> None:
        self._value.setText(f"{value / 100:.2f}")
        self.smoothing_changed.emit(value / 100)

    def _axis_chosen(self) -> None:
        self.axis_changed.emit(self.axis.currentData())

    def _node_chosen(self) -> None:
        self.node_changed.emit(self.nodes.currentData())
