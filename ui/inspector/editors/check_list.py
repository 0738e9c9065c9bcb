"""The editor of a list of choices: a check box for each, with what it is for, in groups.

The first group is always open, the others while something in them is chosen. What each choice means in this project
comes from ``studio.graph.options``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QCheckBox, QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from studio.graph.node_type import Option
from studio.graph.schema import FieldSpec
from studio.system.optional_packages import PACKAGES
from ui.inspector.editors.base import Editor, FieldContext
from ui.inspector.section import Section
from ui.style import theme
from ui.style.install_button import InstallButton
from ui.style.widgets import MutedLabel, clear, plain_tip

_INDENT_PX, _GAP_PX = 22, 6
_SIGN = "!"


class OptionBox(QWidget):
    """The check box of one choice: its name and a fact in one line, and below them what it is for."""

    clicked = Signal()

    def __init__(self, title: str, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._title = title
        self.box = QCheckBox(title.replace("&", "&&"), self)
        self.box.setObjectName(name)
        self.box.clicked.connect(lambda checked: self.clicked.emit())
        self.mark = QLabel(self)
        self.fact = QLabel(self)
        self.fact.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self.words = MutedLabel("", self)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(_GAP_PX)
        grid.setVerticalSpacing(0)
        grid.addWidget(self.box, 0, 0)
        grid.addWidget(self.mark, 0, 1)
        grid.setColumnStretch(2, 1)
        grid.addWidget(self.fact, 0, 3)
        below = QHBoxLayout()
        below.setContentsMargins(_INDENT_PX, 0, 0, 0)
        below.addWidget(self.words)
        grid.addLayout(below, 1, 0, 1, 4)
        theme.changed.connect(self._paint)
        self._paint()

    def show_option(self, option: Option) -> None:
        """Show what is known about the choice."""
        self.fact.setText(option.fact)
        self.words.setText(option.words)
        self.words.setVisible(bool(option.words))
        self.mark.setText(_SIGN if option.missing else "")
        self.mark.setToolTip(plain_tip(option.missing))
        missing = f"{option.missing}, which is not installed" if option.missing else ""
        parts = [p for p in (self._title, option.fact.replace("≈", "about"), missing) if p]
        self.box.setAccessibleName(", ".join(parts))
        self.box.setAccessibleDescription(option.words)
        self.box.setToolTip(plain_tip(option.words))

    def _paint(self) -> None:
        palette = QPalette(self.mark.palette())
        palette.setColor(QPalette.ColorRole.WindowText, theme.colors().warning)
        self.mark.setPalette(palette)


class Missing(QWidget):
    """What is not installed on this computer, the command that installs it, and a button that does."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._package = ""
        self.text = MutedLabel("", self)
        self.text.setObjectName("missing-option")
        self.text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(_GAP_PX)
        self._column.addWidget(self.text)
        self.hide()

    def show_missing(self, options: Sequence[Option]) -> None:
        """Show what the options need, if something is missing."""
        option = next((o for o in options if o.missing), None)
        package = PACKAGES.get(option.package) if option is not None else None
        if option is not None:
            what = f"{option.missing[:1].upper()}{option.missing[1:]}"
            how = f" Install it with: {package.command}" if package is not None else ""
            self.text.setText(f"{_SIGN} {what}, which is not installed.{how}")
        if package is not None and package.id != self._package:
            clear(self._column, keep=1)
            self._package = package.id
            self._column.addWidget(InstallButton(package, self), 0, Qt.AlignmentFlag.AlignLeft)
        self.setVisible(option is not None)


class CheckListEditor(Editor):
    """Check boxes for the choices of a list. An unknown value is shown, and kept until it is cleared."""

    wide = tall = True

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self.boxes: dict[str, OptionBox] = {}
        self._sections: dict[str, Section] = {}
        self._groups: dict[str, str] = {}
        self._value: list[str] = []
        self._places: tuple[tuple[str, str], ...] = ()
        self._list = QWidget(self)
        column = QVBoxLayout(self._list)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(_GAP_PX)
        inside = QWidget(self._list)
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.setSpacing(_GAP_PX)
        self._missing = Missing(self._list)
        column.addWidget(inside)
        column.addWidget(self._missing)
        self.adopt(self._list)
        self._list.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.set_value(spec.default)

    def set_value(self, value: Any) -> None:
        """Check these choices, and show what is known about all of them now."""
        given = [str(v) for v in value] if isinstance(value, (list, tuple)) else []
        known = {c.upper(): c for c in map(str, self.spec.choices)}
        value = list(dict.fromkeys(known.get(v.upper(), v) for v in given))
        added, self._value = set(value) - set(self._value), value
        options = self._options()
        places = tuple((o.value, o.group) for o in options)
        if places != self._places:
            self._places = places
            self._build(options)
        for option in options:
            box = self.boxes[option.value]
            box.show_option(option)
            box.box.setChecked(option.value in self._value)
            if option.value in added and option.group in self._sections:
                self._sections[option.group].expand()
        self._missing.show_missing(options)
        self._count()

    def _options(self) -> list[Option]:
        """The options of this project, then the choices that it says nothing about, and unknown values."""
        found = [o for o in self.context.options(self.path) if o.value in self.spec.choices]
        names = {o.value for o in found}
        rest = [str(c) for c in self.spec.choices if c not in names]
        strange = [v for v in self._value if v not in self.spec.choices]
        return [*found, *map(Option, rest), *(Option(v, words="Unknown") for v in strange)]

    def _build(self, options: Sequence[Option]) -> None:
        clear(self._column)
        self.boxes, self._sections = {}, {}
        self._groups = {o.value: o.group for o in options}
        open_groups = {options[0].group, ""} | {o.group for o in options if o.value in self._value}
        for option in options:
            place = self._place(option.group, option.group in open_groups)  # before: the tab order
            box = OptionBox(option.value, f"option:{self.path}:{option.value}", self._list)
            box.clicked.connect(self._clicked)
            box.box.installEventFilter(self)
            self.boxes[option.value] = box
            place.addWidget(box)
        self._list.setFocusProxy(self.boxes[options[0].value].box)

    def _place(self, group: str, is_open: bool) -> QVBoxLayout:
        if not group:
            return self._column
        if group not in self._sections:
            section = Section(group, is_open, self._list)
            section.column.setSpacing(_GAP_PX)
            self._sections[group] = section
            self._column.addWidget(section)
        return self._sections[group].column

    def _count(self) -> None:
        """Say in the heading of each group how many are chosen, which matters while it is folded."""
        for title, section in self._sections.items():
            count = sum(self._groups.get(v) == title for v in self._value)
            section.set_note(f"{count} chosen" if count else "")

    def _clicked(self) -> None:
        """The chosen values, in the order of the choices; each click is one step to undo."""
        chosen = [v for v, box in self.boxes.items() if box.box.isChecked()]
        order: Callable[[str], int] = [*map(str, self.spec.choices), *chosen].index
        self._value = sorted(chosen, key=order)
        self._count()
        self.edited.emit(list(self._value))
        self.left.emit()
