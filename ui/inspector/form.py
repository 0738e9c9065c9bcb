"""A form for any settings model: rows in one section per topic, variants with their own.

It turns values into editors and edits into ``Change``s. It does not know documents, nodes or files;
its owner stores the values.

Shown are the rows that apply to the other values: the essential ones, or all. A row whose value was
changed, or which has a Problem, is shown in any case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import QVBoxLayout, QWidget

from studio.errors import Problem
from studio.graph.node_type import Variant
from studio.graph.schema import FieldSpec, Settings, fields_of, problems_in
from ui.inspector.editors.base import FieldContext
from ui.inspector.row import Change, FieldRow, same, words_for
from ui.inspector.section import Section
from ui.style.widgets import MutedLabel, retire

MakeForm = Callable[[Variant, str, QWidget], "Form"]
INDENT_PX = 12
_GAP_PX = 10
OWN_CODES = ("invalid_setting", "unknown_setting")
_LABEL_SHARE = 0.33


class VariantPart(QWidget):
    """The part below a field that selects a variant: the help of the chosen variant and, where it has
    settings, their form. It stores no values; the form around it does."""

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
        self._shown = True
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

    def show_all(self, all_settings: bool) -> None:
        """Show all settings of the variant, or the essential ones."""
        if self._form is not None:
            self._form.show_all(all_settings)

    def more(self) -> int:
        """How many settings of the variant are shown only with all settings."""
        return self._form.more() if self._form is not None else 0

    def has_more(self) -> bool:
        """Whether the variant has settings that are not essential."""
        return self._form is not None and self._form.has_more()

    def set_shown(self, shown: bool) -> None:
        """Show or hide the part together with the field that selects the variant."""
        self._shown = shown
        self.setVisible(shown and (self._form is not None or not self._help.isHidden()))

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
        self.set_shown(self._shown)
        self.rebuilt.emit()


def shown_fields(model: type[Settings]) -> list[FieldSpec]:
    """The fields that get a row: all but the nested settings of variants."""
    specs = fields_of(model)
    nested = {f"{s.name}_settings" for s in specs if s.meta.variant}
    return [s for s in specs if s.name not in nested]


class Form(QWidget):
    """Rows for the fields of one settings model, and below a variant the form of its settings.

    ``folds`` keeps which sections are folded, by prefix and title, for as long as the caller keeps it.
    ``variant`` is the title of the variant whose settings these are. A row that was shown because its
    value was changed stays while it is reset, so that the rows below do not move.
    """

    changed = Signal(object)
    left = Signal()

    def __init__(
        self,
        model: type[Settings],
        context: FieldContext,
        prefix: str = "",
        folds: dict[str, bool] | None = None,
        parent: QWidget | None = None,
        variant: str = "",
        all_settings: bool = False,
    ) -> None:
        super().__init__(parent)
        self._all, self._kept = all_settings, set[str]()
        self._used = ""  # the field that was changed or focused last
        self._model, self._context, self._prefix = model, context, prefix
        self._variant = variant
        self._folds = {} if folds is None else folds
        self._values: dict[str, Any] = {}
        self._rows: dict[str, FieldRow] = {}
        self._variants: dict[str, VariantPart] = {}
        self._sections: dict[str, Section] = {}
        self._read_only = False
        self.setMinimumWidth(1)  # narrower than the hints of its rows: the layout is then updated
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(_GAP_PX)
        for spec in shown_fields(model):
            self._add(spec)
        self._show_rows()

    def rows(self) -> Iterator[FieldRow]:
        """Every row, those of variants included."""
        for name, row in self._rows.items():
            yield row
            if name in self._variants:
                yield from self._variants[name].rows()

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show these settings; missing ones have their defaults. Emits nothing."""
        self._values = dict(values)
        differs = False
        for name, row in self._rows.items():
            differs = row.set_value(values.get(name, row.spec.default)) or differs
            if name in self._variants:
                inner = values.get(f"{name}_settings")
                chosen = values.get(name, row.spec.default)
                self._variants[name].show_variant(
                    chosen, inner if isinstance(inner, Mapping) else {}
                )
        if differs or any(row.spec.meta.port for row in self._rows.values()):
            self._show_rows()

    def own_problems(self, title: str) -> list[Problem]:
        """The Problems of the values themselves, in the same words as everywhere."""
        found = problems_in(self._model, self._values, None, title, self._prefix)
        for part in self._variants.values():
            found += part.own_problems(title)
        return found

    def set_problems(self, problems: Sequence[Problem]) -> list[Problem]:
        """Show each Problem at its field; returns those that belong to no field of this form."""
        rows = {row.path: row for row in self.rows()}
        faulty = {p.field for p in problems}
        concerned = [row for path, row in rows.items() if path in faulty or row.has_problems]
        for row in concerned:
            row.set_problems([p for p in problems if p.field == row.path])
        if concerned:
            self._show_rows()
        for title, section in self._sections.items():
            if any(row.path in faulty for row in self._rows_of(title)):
                section.expand()
        return [p for p in problems if p.field not in rows]

    def show_all(self, all_settings: bool) -> None:
        """Show all settings, or the essential ones."""
        self._all, self._used = all_settings, ""
        self._kept.clear()
        for part in self._variants.values():
            part.show_all(all_settings)
        self._show_rows()

    def more(self) -> int:
        """How many settings that apply are shown only with all settings."""
        own = sum(row.isHidden() and not row.why_off for row in self._rows.values())
        return own + sum(
            part.more() for name, part in self._variants.items() if not self._rows[name].isHidden()
        )

    def has_more(self) -> bool:
        """Whether there are settings that apply and are not essential."""
        parts = (p for name, p in self._variants.items() if not self._rows[name].why_off)
        return any(
            row.spec.meta.advanced and not row.why_off for row in self._rows.values()
        ) or any(part.has_more() for part in parts)

    def set_read_only(self, read_only: bool) -> None:
        """Make the form read-only, or editable again."""
        self._read_only = read_only
        for row in self._rows.values():
            row.set_read_only(read_only)
        for part in self._variants.values():
            part.set_read_only(read_only)

    def focus_field(self, path: str) -> QWidget | None:
        """Show a field, expand its section, give it the focus, and return its row."""
        for name, row in self._rows.items():
            nested = self._variants[name].focus_field(path) if name in self._variants else None
            if row.path == path or nested is not None:
                self._used = name
                self._show_rows()
                if row.spec.meta.group in self._sections:
                    self._sections[row.spec.meta.group].expand()
                (nested or row).editor.control.setFocus()  # type: ignore[attr-defined]
                return nested or row
        return None

    def lay_out(self, width: int, label_width: int, stacked: bool) -> None:
        """Align the rows; one that needs more space has its label above."""
        for row in self._rows.values():
            row.lay_out(stacked or not row.room_beside(width, label_width), label_width)
        for part in self._variants.values():
            part.lay_out(width - INDENT_PX, label_width - INDENT_PX, stacked)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Put labels above editors where the form is narrow."""
        super().resizeEvent(event)
        if not self._prefix:
            self._arrange(event.size().width())

    def _arrange(self, width: int) -> None:
        rows = [row for row in self.rows() if not row.editor.wide]
        indents = {row: row.path.count(".") * INDENT_PX for row in rows}
        label = max((row.label_width() + indents[row] for row in rows), default=0)
        label = max(label, round(width * _LABEL_SHARE))
        numbers = [row for row in rows if row.spec.kind in ("int", "float")]
        self.lay_out(width, label, not all(row.room_beside(width, label, True) for row in numbers))

    def _add(self, spec: FieldSpec) -> None:
        row = FieldRow(spec, f"{self._prefix}{spec.name}", self._context, self)
        row.changed.connect(self._changed)
        row.left.connect(self.left)
        self._rows[spec.name] = row
        place = self._place(spec.meta.group)
        place.addWidget(row)
        if spec.meta.variant:
            part = VariantPart(spec, self._context, self._prefix, self._nested, self)
            part.changed.connect(self.changed)
            part.left.connect(self.left)
            part.rebuilt.connect(self._rebuilt)
            self._variants[spec.name] = part
            place.addWidget(part)

    def _nested(self, variant: Variant, prefix: str, parent: QWidget) -> Form:
        context, folds = self._context, self._folds
        return Form(variant.settings, context, prefix, folds, parent, variant.title, self._all)

    def _place(self, title: str) -> QVBoxLayout:
        if not title:
            return self._column
        if title not in self._sections:
            key = self._prefix + title
            words = f"{title} ({self._variant})" if self._variant else title
            essential = any(
                not spec.meta.advanced
                for spec in fields_of(self._model)
                if spec.meta.group == title
            )
            section = Section(words, not self._folds.get(key, not essential), self)
            section.folded.connect(lambda shown: self._folds.update({key: not shown}))
            self._sections[title] = section
            self._column.addWidget(section)
        return self._sections[title].column

    def _changed(self, change: Change) -> None:
        self._values[change.spec.name] = change.value
        self._used = change.spec.name
        self._show_rows()
        self.changed.emit(change)

    def _rebuilt(self) -> None:
        self._arrange(self.width()) if not self._prefix else None
        self.set_read_only(self._read_only)

    def _rows_of(self, title: str) -> list[FieldRow]:
        return [row for row in self._rows.values() if row.spec.meta.group == title]

    def _show_rows(self) -> None:
        """Show the rows that apply, and those with a changed value or a Problem. One that does not apply is
        greyed out, with the reason."""
        unused = self._unused()
        for name, row in self._rows.items():
            reasons = [f"Not used by {unused[name]}."] if name in unused else []
            for other, wanted in row.spec.meta.shown_if:
                known = self._rows.get(other)
                if known is not None and not any(same(known.value, v) for v in wanted):
                    words = " or ".join(words_for(known.spec, v) for v in wanted)
                    reasons.append(f"Used only if {known.spec.meta.label} is {words}.")
            if not self._context.connected(row.spec.meta.port):
                reasons.append("Nothing is connected to its input.")
            row.set_off(" ".join(reasons))
            if not row.is_default or row.has_problems or name == self._used:
                self._kept.add(name)
            elif reasons:
                self._kept.discard(name)
            applies = not reasons and (self._all or not row.spec.meta.advanced)
            row.setHidden(not applies and name not in self._kept)
            if name in self._variants:
                self._variants[name].set_shown(not row.isHidden())
        for title, section in self._sections.items():
            rows = self._rows_of(title)
            section.setHidden(all(row.isHidden() for row in rows))
            changed = sum(not row.is_default for row in rows)
            section.set_note(f"{changed} changed" if changed else "")

    def _unused(self) -> dict[str, str]:
        """Fields that a selected variant does not use, and the title of that variant."""
        chosen = [
            self._context.registry.variant(row.spec.meta.variant, str(row.value))
            for row in self._rows.values()
            if row.spec.meta.variant
        ]
        return {name: v.title for v in chosen if v is not None for name in v.unused_fields}
