"""The format of the rows: the detected one with its reason, alternatives, the column of each setting, and
the columns that have no role.

Every choice is emitted as settings of the Dataset node; the document is not edited here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QComboBox, QGridLayout, QLabel, QVBoxLayout, QWidget

from studio.graph.registry import Registry
from studio.graph.schema import FieldSpec, fields_of
from studio.system.number_text import percent
from ui.data.left_over_box import LeftOverBox
from ui.inspector.editors.choices import narrow, widen_popup
from ui.style.widgets import MutedLabel, TextLabel, clear

AUTO = "auto"
AUTOMATIC = "auto"
DECLINED = "not used"
_STARTS = (
    ("question_answer", ("question_column", "answer_column")),
    ("messages", ("messages_column",)),
    ("text", ("text_column",)),
    ("classification", ("text_column", "label_column")),
    ("preference", ("chosen_column", "rejected_column")),
)
"""The roles that a column can be given while no format is known; each selects its format."""


class FormatBox(QWidget):
    """``format_chosen`` carries an id, ``column_chosen`` a pair of setting and column (``None``:
    the default), ``ignore_chosen`` a column or key and whether to ignore it."""

    format_chosen = Signal(object)
    column_chosen = Signal(object)
    ignore_chosen = Signal(object)

    def __init__(self, registry: Registry, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._registry = registry
        self._shown: Any = None
        self.found_format = AUTO
        self._combos: dict[str, QComboBox] = {}
        self.format = QComboBox(self)
        self.format.setObjectName("row-format")
        self.format.setAccessibleName("Row format")
        self.format.setSizeAdjustPolicy(
            QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.format.activated.connect(self._format_activated)
        self.reason = MutedLabel("", self)
        self.reason.setObjectName("format-reason")
        self.left_over = LeftOverBox(self)
        self.left_over.role_chosen.connect(self._role_chosen)
        self.left_over.ignore_chosen.connect(self.ignore_chosen)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(10)
        self._grid.setVerticalSpacing(5)
        self._grid.setColumnStretch(1, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        column.addWidget(TextLabel("Format", self))
        column.addWidget(self.format)
        column.addWidget(self.reason)
        column.addLayout(self._grid)
        column.addWidget(self.left_over)

    def show_found(self, settings: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """Show the reply of ``preview`` for these settings of the node."""
        shown = (dict(settings), {k: v for k, v in found.items() if k != "rows"})
        if shown == self._shown:
            return
        self._shown = shown
        self.found_format = str(found["format"])
        chosen = str(settings.get("format", AUTO))
        self._show_formats(chosen, found)
        self.reason.setText(reason_words(chosen, found))
        self._show_columns(settings, found)

    def show_unknown(self, settings: Mapping[str, Any]) -> None:
        """The data could not be read: only the format can be selected."""
        self._shown = None
        self._show_formats(str(settings.get("format", AUTO)), {})
        self.reason.setText("")
        self._clear()
        self.left_over.hide()

    def show_no_format(self, settings: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        """The rows match no format: each column can be given a role, which selects the format."""
        self.show_unknown(settings)
        self._show_formats(str(settings.get("format", AUTO)), found)
        left = [(str(name), "open") for name in found["columns"]]
        names = [name for name, _ in left]
        self.left_over.show_left_over(left, {}, names, self._starts(), found["examples"], "Columns")

    def _starts(self) -> dict[str, str]:
        """``format.setting`` with its label, for each of the first roles."""
        starts: dict[str, str] = {}
        variants = self._registry.variants.get("format", {})
        for format_id, names in _STARTS:
            specs = fields_of(variants[format_id].settings) if format_id in variants else ()
            for spec in specs:
                if spec.name in names:
                    label = f"{spec.meta.label} ({variants[format_id].title})"
                    starts[f"{format_id}.{spec.name}"] = label
        return starts

    def _role_chosen(self, pair: tuple[str, str]) -> None:
        setting, column = pair
        format_id, dot, name = setting.partition(".")
        if dot:
            self.found_format = format_id
        self.column_chosen.emit((name if dot else setting, column))

    # ------------------------------------------------------------ formats

    def _show_formats(self, chosen: str, found: Mapping[str, Any]) -> None:
        ranked = list(found.get("formats") or ())
        self.format.clear()
        best = ranked[0] if ranked else None
        detected = "Detect"
        if best and "format" in found:
            detected = f"Detect: {best['title']}, {percent(best['confidence'])}"
        self.format.addItem(detected, AUTO)
        for entry in ranked:
            self.format.addItem(
                f"{entry['title']} – {percent(entry['confidence'])} sure", entry["id"]
            )
            self.format.setItemData(self.format.count() - 1, entry["reason"], _TIP)
        known = {entry["id"] for entry in ranked}
        variants = self._registry.variants.get("format", {})
        for variant in sorted(variants.values(), key=lambda v: v.order):
            if variant.id not in known:
                self.format.addItem(variant.title, variant.id)
                self.format.setItemData(self.format.count() - 1, variant.help, _TIP)
        self.format.setCurrentIndex(max(0, self.format.findData(chosen)))

    def _format_activated(self) -> None:
        self.format_chosen.emit(self.format.currentData())

    # ------------------------------------------------------------ columns

    def _show_columns(self, settings: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        variant = self._registry.variants.get("format", {}).get(str(found["format"]))
        specs = {s.name: s for s in fields_of(variant.settings)} if variant is not None else {}
        bound = {n: c for n, c in found["bound"].items() if n in specs}
        own = settings.get("format_settings")
        named = own if isinstance(own, Mapping) else {}
        columns = [str(c) for c in found["columns"]]
        shown = [n for n, c in bound.items() if c is not None or n in named or specs[n].min_length]
        if shown != list(self._combos):
            self._clear()
            for name in shown:
                self._add_column(specs[name])
        for name in shown:
            self._fill(self._combos[name], columns, bound[name], named.get(name), specs[name])
        roles = {name: specs[name].meta.label for name in bound}
        self.left_over.show_left_over(
            found["left_over"], found["refused"], columns, roles, found["examples"]
        )

    def _add_column(self, spec: FieldSpec) -> None:
        label = QLabel(spec.meta.label, self)
        label.setToolTip(spec.meta.help)
        combo = QComboBox(self)
        combo.setObjectName(f"column:{spec.name}")
        combo.setAccessibleName(f"Column for {spec.meta.label}")
        narrow(combo)
        combo.activated.connect(
            lambda _=0, c=combo, name=spec.name: self.column_chosen.emit((name, c.currentData()))
        )
        row = len(self._combos)
        for at, widget in enumerate((label, combo)):
            self._grid.addWidget(widget, row, at)
            widget.show()
        self._combos[spec.name] = combo

    def _fill(
        self, combo: QComboBox, columns: list[str], bound: str | None, own: Any, spec: FieldSpec
    ) -> None:
        """``own`` is the value in the node's settings, ``None`` if they have none."""
        combo.clear()
        found = bound if bound is not None else "none"
        combo.addItem(AUTOMATIC if own is not None else f"{found} ({AUTOMATIC})", None)
        for column in columns:
            combo.addItem(column, column)
        if spec.default and not spec.min_length:
            combo.addItem(DECLINED, "")
        if own and bound is None:
            combo.addItem(f"{own} (not found)", str(own))
        widen_popup(combo)
        shown = own if bound is None else bound
        combo.setCurrentIndex(max(0, combo.findData(shown)) if own is not None else 0)

    def _clear(self) -> None:
        self._combos.clear()
        clear(self._grid)


_TIP = 3  # Qt.ItemDataRole.ToolTipRole


def reason_words(chosen: str, found: Mapping[str, Any]) -> str:
    """How the format was detected, in one line."""
    if chosen == AUTO:
        return f"{found['title']}, {percent(found['confidence'])} confidence: {found['reason']}"
    best = next(iter(found.get("formats") or ()), None)
    if best is not None and best["id"] != chosen:
        return f"Selected manually. The rows look more like {best['title']}: {best['reason']}"
    return "Selected manually."
