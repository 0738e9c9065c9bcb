"""The linear layers of a model as a tree to tick: by kind or by block, with sizes and what is trained.

Or, where the model is not here yet, a line to type names in. It returns a setting; it must not store it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from PySide6.QtCore import QTimer
from PySide6.QtWidgets import (
    QComboBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.layers import LinearModule
from ui.inspector.editors.layer_tree import LayerTree
from ui.inspector.editors.layers import by_block, by_kind, checked_of, written
from ui.inspector.look import MutedLabel

PRESETS = (
    ("all-linear", "All"), ("attention", "Attention"), ("q,v", "q and v"), ("", "None"),
)  # fmt: skip
_SIZE = 42, 32  # in heights of a line


class LayerDialog(QDialog):
    """``rank`` is the node's, for the count of trained parameters; 0 when it is not known."""

    def __init__(
        self, layers: Sequence[LinearModule], value: Any, why_not: str = "", rank: int = 0,
        parent: QWidget | None = None,
    ) -> None:  # fmt: skip
        super().__init__(parent)
        self.setWindowTitle("Choose target modules")
        self.setObjectName("layer-dialog")
        self._layers, self._rank = list(layers), rank
        checked, strange = checked_of(value, layers)
        self.tree = LayerTree(self)
        self.tree.itemChanged.connect(self._ticked)
        self.view = QComboBox(self)
        self.view.setObjectName("layer-view")
        self.view.setAccessibleName("How the layers are grouped")
        self.view.addItems(["By kind", "By layer"])
        self.view.currentIndexChanged.connect(self._regroup)
        self.filter = QLineEdit(self)
        self.filter.setObjectName("layer-filter")
        self.filter.setPlaceholderText("Filter")
        self.filter.setAccessibleName("Show only layers whose name holds this")
        self.filter.setClearButtonEnabled(True)
        self.filter.textChanged.connect(self.tree.filter)
        self.count = QLabel(self)
        self.count.setObjectName("layer-count")
        self._line = QLineEdit(", ".join(strange), self)
        self._line.setObjectName("layer-names")
        self._line.setPlaceholderText("q_proj, v_proj")
        self._line.textChanged.connect(self._judge)
        standard = QDialogButtonBox.StandardButton
        self._buttons = QDialogButtonBox(standard.Ok | standard.Cancel, self)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._soon = QTimer(self, singleShot=True, interval=0)
        self._soon.timeout.connect(self._judge)
        self._lay_out(why_not)
        self.tree.show_groups(by_kind(self._layers), checked)
        self._judge()

    def selection(self) -> str | list[str]:
        """The setting: a preset or names of kinds and layers, with the typed ones."""
        typed = [word.strip() for word in self._line.text().split(",") if word.strip()]
        found = written(self.tree.checked(), self._layers)
        if not typed:
            return found
        if isinstance(found, str):  # a preset cannot be joined with names
            found = [
                k for k, ms in by_kind(self._layers).items() if ms[0].name in self.tree.checked()
            ]
        return list(dict.fromkeys(found + typed))

    def choose(self, preset: str) -> None:
        """Tick what a preset stands for; an empty one takes every tick away."""
        self._fill(checked_of(preset, self._layers)[0] if preset else set())

    def _regroup(self) -> None:
        self._fill(self.tree.checked())

    def _fill(self, checked: set[str]) -> None:
        group = by_block if self.view.currentIndex() else by_kind
        self.tree.show_groups(group(self._layers), checked)
        self.tree.filter(self.filter.text())
        self._judge()

    def _lay_out(self, why_not: str) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 12)
        column.setSpacing(8)
        known = (self.tree, self.view, self.filter, self.count)
        if self._layers:
            top = QHBoxLayout()
            top.addWidget(self.view)
            top.addWidget(self.filter, 1)
            for preset, words in PRESETS:
                top.addWidget(self._preset(preset, words))
            column.addLayout(top)
            column.addWidget(self.tree, 1)
            column.addWidget(self.count)
        else:
            for part in known:
                part.hide()
            column.addWidget(MutedLabel(why_not, self))
        label = QLabel("&Other names, with commas between them" if self._layers else "&Names", self)
        label.setBuddy(self._line)
        self._line.setAccessibleName("Names of layers")
        column.addWidget(label)
        column.addWidget(self._line)
        column.addWidget(self._buttons)
        side = self.fontMetrics().height()
        self.resize(side * _SIZE[0], side * (_SIZE[1] if self._layers else 10))

    def _preset(self, preset: str, words: str) -> QPushButton:
        button = QPushButton(words, self)
        button.setObjectName(f"layer-preset:{preset or 'none'}")
        button.setAutoDefault(False)
        button.clicked.connect(lambda: self.choose(preset))
        return button

    def _ticked(self) -> None:
        """One tick may change thousands of layers below it: they are counted once."""
        self._soon.start()

    def _judge(self) -> None:
        checked = self.tree.checked()
        self.count.setText(count_words(self._layers, checked, self._rank))
        typed = bool(self._line.text().strip())
        ok = self._buttons.button(QDialogButtonBox.StandardButton.Ok)
        ok.setEnabled(bool(checked) or typed)


def count_words(layers: Sequence[LinearModule], checked: set[str], rank: int) -> str:
    """How many layers are ticked, and what plain LoRA of the node's rank trains in them."""
    told = f"{len(checked):,} of {len(layers):,} layers"
    if rank:
        trained = sum(rank * (m.width_in + m.width_out) for m in layers if m.name in checked)
        told += f"; plain LoRA of rank {rank} trains {trained:,} parameters"
    return f"{told}."
