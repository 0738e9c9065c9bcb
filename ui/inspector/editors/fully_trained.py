"""Embedding and head as fully trained modules: a check box each with its size, and a note on tied
weights.

Other names in the setting are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QCheckBox, QHBoxLayout, QVBoxLayout, QWidget

from studio.model.targets import FullyTrainedModule
from ui.style.widgets import MutedLabel

_HEADS = ("lm_head", "embed_out")
TIED = (
    "This model ties its input embedding and output head. If one of them is fully trained, they "
    "are no longer tied, and a merged model contains both."
)


class FullyTrainedBoxes(QWidget):
    """``edited`` carries the selected names."""

    edited = Signal(object)

    def __init__(
        self, parts: Sequence[FullyTrainedModule], dtype: str, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self._parts, self._names = list(parts), list[str]()
        self.boxes = {p.name: QCheckBox(part_words(p, dtype), self) for p in parts}
        self.note = MutedLabel("", self)
        self.note.setObjectName("fully-trained-note")
        self.note.hide()
        row = QHBoxLayout()
        row.setSpacing(16)
        for name, box in self.boxes.items():
            box.setObjectName(f"fully-trained:{name}")
            box.toggled.connect(self._toggled)
            row.addWidget(box)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(row)
        column.addWidget(self.note)

    def show_names(self, names: Sequence[str]) -> None:
        """Check these parts; emits nothing."""
        self._names = list(names)
        for name, box in self.boxes.items():
            box.blockSignals(True)
            box.setChecked(name in names)
            box.blockSignals(False)
        self._warn()

    def _toggled(self) -> None:
        others = [n for n in self._names if n not in self.boxes]
        self._names = [n for n, box in self.boxes.items() if box.isChecked()] + others
        self._warn()
        self.edited.emit(list(self._names))

    def _warn(self) -> None:
        tied = any(p.tied and p.name in self._names for p in self._parts)
        self.note.setText(TIED if tied else "")
        self.note.setVisible(tied)


def part_words(part: FullyTrainedModule, dtype: str) -> str:
    """“Head (lm_head): 28.3 M, 57 MB”; both sizes if the precision is unknown."""
    kind = "Head" if part.name in _HEADS else "Embedding"
    sizes = {"float32": (4,), "auto": (2, 4), "": (2, 4)}.get(dtype, (2,))
    size = " to ".join(f"{part.parameters * each / 1e6:,.0f}" for each in sizes)
    return f"{kind} ({part.name}): {part.parameters / 1e6:,.1f} M, {size} MB"
