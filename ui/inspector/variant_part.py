"""The part below a field that selects a variant: its help, and the form of its settings.

It is rebuilt when another variant is selected. It stores no values; the form above does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QVBoxLayout, QWidget

from studio.errors import Problem
from studio.graph.node_type import Variant
from studio.graph.schema import FieldSpec, Settings, fields_of
from ui.inspector.editors.base import FieldContext
from ui.inspector.row import FieldRow
from ui.style.widgets import MutedLabel, retire

if TYPE_CHECKING:
    # Import cycle: a form holds variant parts, and each of these holds the form of its variant.
    from ui.inspector.form import Form

MakeForm = Callable[[Variant, str, QWidget], "Form"]
INDENT_PX = 12
_GAP_PX = 10


class VariantPart(QWidget):
    """The help of the chosen variant and, where it has settings, their form."""

    changed = Signal(object)
    left = Signal()
    rebuilt = Signal()

    def __init__(
        self,
        spec: FieldSpec,
        context: FieldContext,
        prefix: str,
        make_form: MakeForm,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._spec, self._context, self._make_form = spec, context, make_form
        self._prefix = f"{prefix}{spec.name}_settings."
        self._chosen: Any = None
        self._form: Form | None = None
        self._help = MutedLabel("", self)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(INDENT_PX, 0, 0, 0)
        self._column.setSpacing(_GAP_PX)
        self._column.addWidget(self._help)
        self.hide()

    def rows(self) -> Iterator[FieldRow]:
        """The rows of the variant's settings."""
        return self._form.rows() if self._form is not None else iter(())

    def show_variant(self, chosen: Any, values: Mapping[str, Any]) -> None:
        """Show the form of the chosen variant with these values."""
        if chosen != self._chosen:
            self._chosen = chosen
            self._rebuild(chosen)
        if self._form is not None:
            self._form.set_values(values)

    def own_problems(self, title: str) -> list[Problem]:
        """The Problems of the variant's settings."""
        return self._form.own_problems(title) if self._form is not None else []

    def focus_field(self, path: str) -> QWidget | None:
        """Focus one of the variant's fields."""
        return self._form.focus_field(path) if self._form is not None else None

    def set_read_only(self, read_only: bool) -> None:
        """Make the form read-only, or editable again."""
        if self._form is not None:
            self._form.set_read_only(read_only)

    def lay_out(self, width: int, label_width: int, stacked: bool) -> None:
        """Align the rows with the surrounding form."""
        if self._form is not None:
            self._form.lay_out(width, label_width, stacked)

    def _rebuild(self, chosen: Any) -> None:
        if self._form is not None:
            self._column.removeWidget(self._form)
            retire(self._form)
            self._form = None
        variant = self._context.registry.variant(self._spec.meta.variant, str(chosen))
        self._help.setText(variant.help if variant else "")
        self._help.setVisible(bool(variant and variant.help))
        if variant is not None and shown_fields(variant.settings):
            self._form = self._make_form(variant, self._prefix, self)
            self._form.changed.connect(self.changed)
            self._form.left.connect(self.left)
            self._column.addWidget(self._form)
        self.setVisible(self._form is not None or bool(variant and variant.help))
        self.rebuilt.emit()


def shown_fields(model: type[Settings]) -> list[FieldSpec]:
    """The fields that get a row: all but the nested settings of variants."""
    specs = fields_of(model)
    nested = {f"{s.name}_settings" for s in specs if s.meta.variant}
    return [s for s in specs if s.name not in nested]
