"""The editor for target modules: a preset, or layers selected in a list of the model's layers.

Layer names come from ``studio.model.models``, which reads only the model's description. If that is
not possible (a Hub model that has not been downloaded), names can be typed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtWidgets import QComboBox, QDialog, QWidget

from studio.graph.schema import FieldSpec
from studio.model.models import fully_trained_choices
from ui.inspector.editors.base import Editor, FieldContext
from ui.inspector.editors.choices import narrow, widen_popup
from ui.inspector.editors.layer_dialog import LayerDialog
from ui.inspector.editors.layers import find_layers
from ui.inspector.editors.target_state import WRITTEN
from ui.style.widgets import IconButton, plain_tip

_OWN = "<choose>"
_READ = (*WRITTEN, "method", "method_settings", "r", "alpha")


class TargetModulesEditor(Editor):
    """A list of presets, the present selection, and “Choose layers…”."""

    wide = True

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._value: Any = spec.default
        self._combo = QComboBox(self)
        narrow(self._combo)
        self._combo.activated.connect(self._picked)
        self.adopt(self._combo)
        button = IconButton("list-tree", "Select layers from a list", self)
        button.setObjectName(f"choose:{path}")
        button.clicked.connect(self.choose)
        self.row.addWidget(button)
        self.set_value(spec.default)

    def set_value(self, value: Any) -> None:
        """Show a preset's name, or the layers of a selection."""
        if value == self._value and self._combo.count():
            return
        self._value = value
        presets = self.spec.meta.special
        self._combo.clear()
        for preset, words in presets:
            self._combo.addItem(words, preset)
        if value not in [preset for preset, _ in presets]:
            self._combo.addItem(_words(value), value)
        self._combo.setCurrentIndex(self._combo.count() - 1)
        for index in range(len(presets)):
            if presets[index][0] == value:
                self._combo.setCurrentIndex(index)
        self._combo.addItem("Select layers…", _OWN)
        self._combo.setToolTip(plain_tip(_words(value)))
        widen_popup(self._combo)

    def choose(self) -> None:
        """Open the tree of layers and store the changed settings in one step."""
        model, folder = self.context.base_model(), self.context.project_dir()
        layers, why_not = find_layers(model, folder)
        values = {n: v for n in _READ if (v := self.context.value(n)) is not None}
        values["target_modules"] = self._value
        dialog = LayerDialog(
            layers,
            values,
            why_not,
            fully_trained_choices(model, folder) if model else (),
            str(self.context.base_value("dtype") or ""),
            self._no_ranks(values),
            self,
        )
        if dialog.exec() == QDialog.DialogCode.Accepted:
            self._take_all(dialog.changes())
        dialog.deleteLater()

    def _no_ranks(self, values: Mapping[str, Any]) -> str:
        """The reason if the node's method does not support ranks per layer."""
        found = self.context.registry.variants.get("adapter", {}).get(str(values.get("method")))
        if found is not None and getattr(found.payload, "own_layers", False):
            return f"{found.title} selects its layers automatically."
        uses = getattr(found.payload, "uses", None) if found else None
        if found is None or uses is None or "patterns" in uses:
            return ""
        return f"{found.title} uses the same rank for all layers."

    def _take_all(self, changes: Mapping[str, Any]) -> None:
        if self.context.edit_many is not None:
            if changes:
                self.context.edit_many(changes, "Select target modules")
        elif "target_modules" in changes:
            self._take(changes["target_modules"])

    def _picked(self, index: int) -> None:
        value = self._combo.itemData(index)
        if value != _OWN:
            self._take(value)
            return
        shown, self._value = self._value, None
        self.set_value(shown)
        self.choose()

    def _take(self, value: Any) -> None:
        self.set_value(value)
        self.edited.emit(value)
        self.left.emit()


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
