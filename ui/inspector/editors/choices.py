"""Editors that offer a list: fixed choices, and the variants of a kind from the registry."""

from __future__ import annotations

from typing import Any

from PySide6.QtWidgets import QComboBox, QWidget

from studio.graph.node_type import Option
from studio.graph.schema import FieldSpec
from ui.inspector.editors import methods
from ui.inspector.editors.base import Editor, FieldContext

METHODS = "adapter"
_POPUP_MARGIN_PX = 48
_FRAME_PX = 44


class ChoiceEditor(Editor):
    """A drop-down list; an unknown value is shown and kept."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._combo = QComboBox(self)
        narrow(self._combo)
        self._value: Any = None
        self._listed: list[tuple[Any, str, str]] = []
        self._fill()
        self._combo.activated.connect(self._picked)
        self.adopt(self._combo)

    def choices(self) -> list[tuple[Any, str, str]]:
        """Value, words and help of each choice."""
        if self.spec.meta.variant:
            special = [(value, words, "") for value, words in self.spec.meta.special]
            found = self.context.registry.choices(self.spec.meta.variant)
            return special + [(v.id, v.title, v.help) for v in found]
        options = {
            o.value: o for o in self.context.options(self.path) if o.value in self.spec.choices
        }
        rest = [value for value in self.spec.choices if value not in options]
        described = [
            (o.value, _words(self.spec.choice_label(o.value), o), o.words) for o in options.values()
        ]
        return described + [(value, self.spec.choice_label(value), "") for value in rest]

    def needed_width(self) -> int:
        """Room for the longest choice."""
        texts = [self._combo.itemText(i) for i in range(self._combo.count())]
        return max((self.fontMetrics().horizontalAdvance(t) for t in texts), default=0) + _FRAME_PX

    def set_value(self, value: Any) -> None:
        """Show a choice; an unknown one is added under its own name."""
        self._value = value
        if self._listed != self._texts():
            self._fill(research_open=value in self._research())
        if self._combo.count() and self._combo.currentData() == value:
            return
        if self._place(value) < 0:
            self._fill(research_open=value in self._research())
        if self._place(value) < 0:
            self._combo.addItem(f"{value} (unknown)", value)
        self._combo.setCurrentIndex(self._place(value))

    def _fill(self, research_open: bool = False) -> None:
        self._combo.clear()
        if self._lists_methods:
            variants = list(self.context.registry.choices(METHODS))
            methods.fill(self._combo, variants, research_open)
            return
        self._listed = self._texts()
        for value, words, help_text in self._listed:
            self._combo.addItem(words, value)
            if help_text:
                self._combo.setItemData(self._combo.count() - 1, help_text, 3)
        widen_popup(self._combo)

    def _texts(self) -> list[tuple[Any, str, str]]:
        """The choices as they should be listed now; what they mean may depend on the project."""
        return [] if self._lists_methods else self.choices()

    @property
    def _lists_methods(self) -> bool:
        return self.spec.meta.variant == METHODS and not self.spec.meta.special

    def _research(self) -> set[str]:
        """The IDs of the methods that are collapsed at first."""
        found = self.context.registry.choices(METHODS) if self._lists_methods else ()
        return {v.id for v in found if methods.is_research(v)}

    def _place(self, value: Any) -> int:
        found = [self._combo.itemData(i) for i in range(self._combo.count())]
        return found.index(value) if value in found else -1

    def _picked(self, index: int) -> None:
        value = self._combo.itemData(index)
        if value != methods.OPEN_RESEARCH:
            self._value = value
            self.edited.emit(value)
            return
        self._fill(research_open=True)
        self.set_value(self._value)
        methods.show_research(self._combo)


def _words(label: str, option: Option) -> str:
    """The label of a choice with the fact about it, and whether something is missing."""
    missing = f"{option.missing}, not installed" if option.missing else ""
    return "  ".join(p for p in (label, option.fact, missing) if p)


def narrow(combo: QComboBox) -> None:
    """Let a list be narrower than its longest entry."""
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(8)


def widen_popup(combo: QComboBox) -> None:
    """Let the open list be as wide as its longest entry."""
    metrics = combo.fontMetrics()
    texts = [combo.itemText(i) for i in range(combo.count())]
    width = max((metrics.horizontalAdvance(t) for t in texts), default=0)
    combo.view().setMinimumWidth(width + _POPUP_MARGIN_PX)
