"""A tree of linear layers in groups, each with a tick; a group is ticked, partly ticked or not.

The keyboard does all of it: arrows, and the space bar ticks. It knows layers, not settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QTreeWidget, QTreeWidgetItem, QWidget

from studio.layers import LinearModule
from ui.inspector.editors.layers import shape_words
from ui.inspector.look import row_size

COLUMNS = ("Layer", "Count", "In → out", "Parameters")
_NUMBER = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
_NAME = Qt.ItemDataRole.UserRole
_DIGITS = (40, 8, 15)


class LayerTree(QTreeWidget):
    """Groups on top, their layers below."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName("layers")
        self.setAccessibleName("Linear layers of the model")
        self.setHeaderLabels(COLUMNS)
        self.setUniformRowHeights(True)
        self.setTextElideMode(Qt.TextElideMode.ElideLeft)  # the end of a name tells layers apart
        digit = self.fontMetrics().horizontalAdvance("0")
        for column, digits in enumerate(_DIGITS):
            self.setColumnWidth(column, digit * digits)
        self.header().setStretchLastSection(True)

    def show_groups(self, groups: Mapping[str, Sequence[LinearModule]], checked: set[str]) -> None:
        """Show these groups with these layers ticked."""
        self.blockSignals(True)
        open_ones = {i.text(0) for i in self._tops() if i.isExpanded()}
        self.clear()
        for title, layers in groups.items():
            top = self._item(title, layers)
            top.setFlags(top.flags() | Qt.ItemFlag.ItemIsAutoTristate)
            for layer in layers:
                item = self._item(layer.name, [layer])
                item.setData(0, _NAME, layer.name)
                ticked = layer.name in checked
                item.setCheckState(0, Qt.CheckState.Checked if ticked else Qt.CheckState.Unchecked)
                top.addChild(item)
            self.addTopLevelItem(top)
            top.setExpanded(title in open_ones)
        self.blockSignals(False)
        if self.topLevelItemCount():
            self.setCurrentItem(self.topLevelItem(0))

    def checked(self) -> set[str]:
        """The full names of the ticked layers."""
        return {
            str(item.data(0, _NAME))
            for item in self._layers()
            if item.checkState(0) == Qt.CheckState.Checked
        }

    def filter(self, text: str) -> None:
        """Show only layers whose name, or whose group's, holds the text."""
        wanted = text.strip().lower()
        for top in self._tops():
            whole = wanted in top.text(0).lower()
            shown = 0
            for i in range(top.childCount()):
                child = top.child(i)
                hidden = not whole and wanted not in child.text(0).lower()
                child.setHidden(hidden)
                shown += not hidden
            top.setHidden(not shown)

    def _item(self, title: str, layers: Sequence[LinearModule]) -> QTreeWidgetItem:
        size = sum(layer.parameters for layer in layers)
        words = [title, f"{len(layers):,}", shape_words(layers), f"{size:,}"]
        item = QTreeWidgetItem(words)
        item.setSizeHint(0, row_size(self))
        item.setToolTip(0, title)
        for column in (1, 2, 3):
            item.setTextAlignment(column, _NUMBER)
        return item

    def _tops(self) -> Iterator[QTreeWidgetItem]:
        for i in range(self.topLevelItemCount()):
            yield self.topLevelItem(i)

    def _layers(self) -> Iterator[QTreeWidgetItem]:
        for top in self._tops():
            for i in range(top.childCount()):
                yield top.child(i)
