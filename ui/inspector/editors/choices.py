"""Editors that offer a list: fixed choices, and the variants of a kind from the registry."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QComboBox, QWidget

from studio.graph.schema import FieldSpec
from ui.inspector.editors import methods
from ui.inspector.editors.base import Editor, FieldContext

METHODS = "adapter"
_POPUP_MARGIN_PX = 48
_FRAME_PX = 44


class ChoiceEditor(Editor):
    """A drop-down list; a value that is not in it is shown as it is, and kept."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._combo = QComboBox(self)
        narrow(self._combo)
        self._fill()
        self._combo.activated.connect(self._picked)
        self.adopt(self._combo)

    def choices(self) -> list[tuple[Any, str, str]]:
        """Value, words and help of each choice."""
        if self.spec.meta.variant:
            special = [(value, words, "") for value, words in self.spec.meta.special]
            found = self.context.registry.choices(self.spec.meta.variant)
            return special + [(v.id, v.title, v.help) for v in found]
        return [(value, self.spec.choice_label(value), "") for value in self.spec.choices]

    def needed_width(self) -> int:
        """Room for the longest choice."""
        texts = [self._combo.itemText(i) for i in range(self._combo.count())]
        return max((self.fontMetrics().horizontalAdvance(t) for t in texts), default=0) + _FRAME_PX

    def set_value(self, value: Any) -> None:
        """Show a choice; an unknown one is added under its own name."""
        place = self._place(value)
        if place < 0:
            self._fill()
            self._combo.addItem(f"{value} (unknown)", value)
            place = self._combo.count() - 1
        self._combo.setCurrentIndex(place)

    def _fill(self) -> None:
        self._combo.clear()
        if self.spec.meta.variant == METHODS and not self.spec.meta.special:
            methods.fill(self._combo, list(self.context.registry.choices(METHODS)))
            return
        for value, words, help_text in self.choices():
            self._combo.addItem(words, value)
            if help_text:
                self._combo.setItemData(self._combo.count() - 1, help_text, 3)
        widen_popup(self._combo)

    def _place(self, value: Any) -> int:
        found = [self._combo.itemData(i) for i in range(self._combo.count())]
        return found.index(value) if value in found else -1

    def _picked(self, index: int) -> None:
        self.edited.emit(self._combo.itemData(index))


def narrow(combo: QComboBox) -> None:
    """Let a list be as narrow as its place, whatever its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)


def widen_popup(combo: QComboBox) -> None:
    """Let the open list be as wide as its longest entry."""
    metrics = combo.fontMetrics()
    texts = [combo.itemText(i) for i in range(combo.count())]
    width = max((metrics.horizontalAdvance(t) for t in texts), default=0)
    combo.view().setMinimumWidth(width + _POPUP_MARGIN_PX)
