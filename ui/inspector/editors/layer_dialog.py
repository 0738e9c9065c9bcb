"""A list of layers to tick, with how many there are and how large; or a line to type names in."""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from ui.inspector.editors.layers import LayerGroup
from ui.inspector.look import MutedLabel, row_size

_GAP_PX = 28


class LayerDialog(QDialog):
    """Ticks for known layers, a line for names that are not in the list."""

    def __init__(
        self,
        layers: Sequence[LayerGroup],
        selected: Sequence[str],
        why_not: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self.setWindowTitle("Choose target modules")
        self.setObjectName("layer-dialog")
        self._tree = self._make_tree(layers, set(selected))
        known = {layer.name for layer in layers}
        self._line = QLineEdit(", ".join(n for n in selected if n not in known), self)
        self._line.setObjectName("layer-names")
        self._line.setPlaceholderText("q_proj, v_proj")
        self._line.textChanged.connect(self._judge)
        self._buttons = QDialogButtonBox(
            QDialogButtonBox.StandardButton.Ok | QDialogButtonBox.StandardButton.Cancel, self
        )
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._lay_out(why_not)
        self._judge()

    def selection(self) -> list[str]:
        """The ticked names in the order of the list, then the typed ones."""
        items = [self._tree.topLevelItem(i) for i in range(self._tree.topLevelItemCount())]
        ticked = [i.text(0) for i in items if i.checkState(0) == Qt.CheckState.Checked]
        typed = [word.strip() for word in self._line.text().split(",") if word.strip()]
        return list(dict.fromkeys(ticked + typed))

    def _make_tree(self, layers: Sequence[LayerGroup], selected: set[str]) -> QTreeWidget:
        tree = QTreeWidget(self)
        tree.setObjectName("layers")
        tree.setAccessibleName("Linear layers of the model")
        tree.setHeaderLabels(["Layer", "Count", "Shape (out × in)"])
        tree.setRootIsDecorated(False)
        tree.setUniformRowHeights(True)
        for layer in layers:
            item = QTreeWidgetItem([layer.name, str(layer.count), layer.shape])
            item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            ticked = layer.name in selected
            item.setCheckState(0, Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
            item.setSizeHint(0, row_size(self))
            tree.addTopLevelItem(item)
        header = tree.header()
        header.setStretchLastSection(True)
        widest = max((self.fontMetrics().horizontalAdvance(g.name) for g in layers), default=0)
        tree.setColumnWidth(0, widest + self.fontMetrics().height() * 3)
        tree.setColumnWidth(1, self.fontMetrics().horizontalAdvance("00000") + _GAP_PX)
        tree.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        tree.itemChanged.connect(self._judge)
        return tree

    def _lay_out(self, why_not: str) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 12)
        column.setSpacing(8)
        if self._tree.topLevelItemCount():
            column.addWidget(QLabel("Each ticked layer gets an adapter.", self))
            column.addWidget(self._tree, 1)
        else:
            self._tree.hide()
            column.addWidget(MutedLabel(why_not, self))
        label = QLabel("&Names, with commas between them", self)
        label.setBuddy(self._line)
        self._line.setAccessibleName("Names of layers")
        column.addWidget(label)
        column.addWidget(self._line)
        column.addWidget(self._buttons)
        side = self.fontMetrics().height()
        self.resize(side * 26, side * (24 if self._tree.topLevelItemCount() else 10))

    def _judge(self) -> None:
        ok = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(bool(self.selection()))
