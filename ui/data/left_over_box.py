"""The columns and keys of a file without a role: what each is, and a list to give it a role or to ignore
it.

It shows the ``left_over`` columns of a preview, and edits nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QComboBox, QGridLayout, QLabel, QPushButton, QVBoxLayout, QWidget

from ui.inspector.editors.choices import narrow, widen_popup
from ui.style import icons, theme
from ui.style.widgets import ErrorLabel, MutedLabel, TextLabel, clear, icon_side, plain_tip

_SHOWN = 20
_TIP = Qt.ItemDataRole.ToolTipRole
REASONS: Mapping[str, tuple[str, str]] = {
    "open": ("Choose…", "Its use is not known, because the rows match no format."),
    "unused": ("Not used", "It is not used for training."),
    "refused": ("Refused", "Rows with content in it are refused."),
    "ignored": ("Ignored", "It is one of the ignored columns of this node."),
    "declined": ("Ignored", "The setting that would use it is “not used”."),
    "split": ("Split", "It decides which rows are held out for validation."),
    "template": ("Used", "A template uses it."),
    "repeated": ("Repeated", "Its text is already part of the row."),
    "bookkeeping": ("Bookkeeping", "By its name it describes the row and is not content."),
    "empty": ("Empty", "It holds nothing in the first rows."),
}
"""Word and explanation for each reason, the order in which they are shown."""
_WITH_EXAMPLE = ("open", "unused", "refused")
_LAST = ("template", "repeated", "bookkeeping", "empty")
_SIGNS = {"unused": ("triangle-alert", "warning"), "refused": ("circle-alert", "danger")}


class _Row(NamedTuple):
    sign: QLabel
    use: QComboBox


class LeftOverBox(QWidget):
    """``role_chosen`` carries a setting and a column, ``ignore_chosen`` a name and whether to ignore it."""

    role_chosen = Signal(object)
    ignore_chosen = Signal(object)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._left: list[tuple[str, str]] = []
        self._refused: Mapping[str, Any] = {}
        self._roles: Mapping[str, str] = {}
        self._columns: frozenset[str] = frozenset()
        self._structure: Any = None
        self._all = False
        self._rows: dict[str, _Row] = {}
        self._examples: Mapping[str, str] = {}
        self._title = TextLabel("Other columns", self)
        self._grid = QGridLayout()
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(5)
        self._grid.setColumnStretch(1, 1)
        self._grid.setColumnStretch(2, 1)
        self.more = QPushButton("", self)
        self.more.setObjectName("more-columns")
        self.more.clicked.connect(self._show_all)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 4, 0, 0)
        column.setSpacing(6)
        column.addWidget(self._title)
        column.addLayout(self._grid)
        column.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        theme.changed.connect(self._paint)
        self.hide()

    def show_left_over(
        self,
        left: Sequence[Sequence[str]],
        refused: Mapping[str, Any],
        columns: Sequence[str],
        roles: Mapping[str, str],
        examples: Mapping[str, str],
        title: str = "Other columns",
    ) -> None:
        """Show these names with their reasons and examples, and the errors of refused ones. ``roles`` are
        the labels of the settings that one of the ``columns`` can have."""
        self._title.setText(title)
        self._examples = examples
        pairs = [(str(name), str(reason)) for name, reason in left]
        self._left = sorted(pairs, key=lambda pair: pair[1] in _LAST)  # keeps the order of the file
        self._refused, self._roles, self._columns = refused, roles, frozenset(columns)
        self._show()

    def _show(self) -> None:
        shown = self._left if self._all else self._left[:_SHOWN]
        structure = [(n, self._example(n, reason), self._refused.get(n)) for n, reason in shown]
        if structure != self._structure:
            self._structure = structure
            self._rows.clear()
            clear(self._grid)
            for name, reason in shown:
                self._add(name, self._example(name, reason))
        for name, reason in shown:
            self._fill(self._rows[name].use, name, reason)
        hidden = len(self._left) - len(shown)
        self.more.setText(f"Show {hidden:,} More Columns")
        self.more.setVisible(hidden > 0)
        self.setVisible(bool(self._left))
        self._paint()

    def _show_all(self) -> None:
        self._all = True
        self._show()

    def _example(self, name: str, reason: str) -> str:
        return self._examples.get(name, "") if reason in _WITH_EXAMPLE else ""

    def _add(self, name: str, example: str) -> None:
        at = self._grid.rowCount()
        label = TextLabel(name, self)
        label.setAccessibleName(name)
        label.setToolTip(plain_tip(name))
        use = QComboBox(self)
        use.setObjectName(f"left-over:{name}")
        use.setAccessibleName(f"Use of {name}")
        narrow(use)
        use.activated.connect(lambda _=0, name=name, use=use: self._chosen(name, use))
        row = self._rows[name] = _Row(QLabel(self), use)
        for column, widget in enumerate((row.sign, label, use)):
            self._grid.addWidget(widget, at, column)
            widget.show()
        below: list[QLabel] = []
        if example:
            below.append(MutedLabel(example, self))
            below[0].setObjectName(f"example:{name}")
            below[0].setContentsMargins(0, 0, 0, 6)  # nearer to its own name than to the next
        error = self._refused.get(name)
        if error is not None:
            sentence = str(error["sentence"])
            shown = ErrorLabel(sentence[:1].upper() + sentence[1:], self)
            shown.setObjectName("column-error")
            below += [shown, MutedLabel(str(error["hint"]), self)]
        for line, widget in enumerate(below, start=at + 1):
            self._grid.addWidget(widget, line, 1, 1, 2)
            widget.show()

    def _fill(self, use: QComboBox, name: str, reason: str) -> None:
        word, explanation = REASONS[reason]
        use.clear()
        use.addItem(word)
        use.setItemData(0, explanation, _TIP)
        use.setToolTip(explanation)
        if reason in ("unused", "refused"):
            use.addItem("Ignore", True)
        elif reason == "ignored":
            use.addItem("Stop ignoring", False)
        if reason != "template" and name in self._columns:
            for setting, label in self._roles.items():
                use.addItem(f"Use as {label[:1].lower()}{label[1:]}", setting)
        use.setEnabled(use.count() > 1)
        widen_popup(use)

    def _chosen(self, name: str, use: QComboBox) -> None:
        chosen = use.currentData()
        if isinstance(chosen, bool):
            self.ignore_chosen.emit((name, chosen))
        elif chosen is not None:
            self.role_chosen.emit((str(chosen), name))

    def _paint(self) -> None:
        colors = theme.colors()
        side = icon_side(self)
        for name, reason in self._left:
            if name not in self._rows:
                continue
            sign = self._rows[name].sign
            sign.setVisible(reason in _SIGNS)
            if reason in _SIGNS:
                icon, role = _SIGNS[reason]
                color = getattr(colors, role)
                sign.setPixmap(icons.pixmap(icon, side, color, self.devicePixelRatioF()))
