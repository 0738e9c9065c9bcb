"""One field of a form: label, help, editor, reset button, and the Problems that belong to it.

The row knows its field and its value. A change is emitted once, as a ``Change``; the owner of the
form handles it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QKeySequence
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QLabel, QVBoxLayout, QWidget

from studio.errors import Problem
from studio.graph.schema import FieldSpec
from studio.shown_text import MOST_IN_QUOTES, line
from ui.inspector.editors.base import FieldContext
from ui.inspector.editors.number_text import to_text
from ui.inspector.problem_label import ProblemList
from ui.style.guide_link import MORE, GuideLink, explain
from ui.style.widgets import IconButton, MutedLabel

_ANY_WIDTH = 16777215


@dataclass(frozen=True)
class Change:
    """An edit of one field; ``reset`` restores the default."""

    path: str
    value: Any
    spec: FieldSpec
    reset: bool = False

    @property
    def label(self) -> str:
        """The label for the Edit menu."""
        return f"{'Reset' if self.reset else 'Change'} {self.spec.meta.label}"


class FieldRow(QWidget):
    """Label and editor side by side if there is space, else one above the other."""

    changed = Signal(object)
    left = Signal()

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.spec, self.path, self._context = spec, path, context
        self._read_only = False
        self.why_off = ""
        self._shown_problems: tuple[Problem, ...] = ()
        self.value: Any = spec.default
        from ui.inspector.editors.pick import editor_for  # the first paint needs no editors

        self.editor = editor_for(spec, path, context, self)
        self.editor.edited.connect(self._edited)
        self.editor.left.connect(self.left)
        self.editor.control.installEventFilter(self)
        self._label_side = self._make_label()
        self._reset = IconButton("rotate-ccw", f"Reset to {self._default_words()}", self)
        self._reset.setObjectName(f"reset:{path}")
        self._reset.setAccessibleName(f"Reset {spec.meta.label} to {self._default_words()}")
        self._reset.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self._reset.clicked.connect(self._wants_default)
        keep = self._reset.sizePolicy()
        keep.setRetainSizeWhenHidden(True)
        self._reset.setSizePolicy(keep)
        self._place = context.guide_place(path, spec)
        explain(self, self._place)
        self._help = QWidget(self)
        self._help.hide()
        inside = QVBoxLayout(self._help)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(2)
        inside.addWidget(MutedLabel(spec.meta.help, self._help))
        self._problems = ProblemList(self)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(6)
        self._grid.setVerticalSpacing(3)
        self._stacked: bool | None = None
        self.lay_out(False, 0)
        self.editor.set_value(spec.default)
        self._apply_enabled()

    def set_value(self, value: Any) -> bool:
        """Show a value, and return whether it is another one; the reset button appears when it is not
        the default."""
        differs = not same(value, self.value)
        self.value = value
        self.editor.set_value(value)  # the same value too: an editor may draw other fields with it
        if self.spec.meta.port:
            self._name_after_input()
        if differs:
            self._show_reset()
        return differs

    @property
    def has_problems(self) -> bool:
        """Whether a Problem is shown."""
        return bool(self._shown_problems)

    @property
    def is_default(self) -> bool:
        """Whether the value is the field's default."""
        return same(self.value, self.spec.default)

    def set_problems(self, problems: Sequence[Problem]) -> None:
        """Show Problems directly below the editor."""
        if tuple(problems) == self._shown_problems:
            return
        self._shown_problems = tuple(problems)
        self._problems.show_problems(problems)
        invalid = any(p.blocks for p in problems)
        control = self.editor.control
        if bool(control.property("invalid")) != invalid:
            control.setProperty("invalid", invalid)
            control.style().unpolish(control)
            control.style().polish(control)
        self._describe()

    def set_off(self, why: str) -> None:
        """Grey the field out with a reason; an empty reason enables it again."""
        if why != self.why_off:
            self.why_off = why
            self._apply_enabled()

    def set_read_only(self, read_only: bool) -> None:
        """Make the field read-only while a run is shown."""
        if read_only != self._read_only:
            self._read_only = read_only
            self._apply_enabled()

    def toggle_help(self) -> None:
        """Show or hide the help text under the field."""
        inside = self._help.layout()
        if self._place and inside is not None and inside.count() == 1:  # made on first use
            inside.addWidget(GuideLink(self._place, self._help))
        self._help.setVisible(self._help.isHidden())

    def label_width(self) -> int:
        """The least width (pixels) for the label: its longest word and the help button."""
        metrics = self.fontMetrics()
        words = self.spec.meta.label.split()
        longest = max((metrics.horizontalAdvance(word) for word in words), default=0)
        return longest + self._info.width() + 8

    def room_beside(self, width: int, label_width: int, number: bool = False) -> bool:
        """Whether there is enough space for the editor, or for a ``number`` in it, next to a label of this width
        (pixels)."""
        rest = width - label_width - self._reset.width() - 2 * self._grid.horizontalSpacing()
        least = self.editor.number_width() if number else self.editor.needed_width()
        return not self.editor.wide and least <= rest

    def lay_out(self, stacked: bool, label_width: int) -> None:
        """Put the label above the editor, or beside it in a column of this width (pixels)."""
        width = 0 if stacked else label_width
        self._label_side.setMinimumWidth(width)
        self._label_side.setMaximumWidth(width or _ANY_WIDTH)
        if stacked == self._stacked:
            return
        self._stacked = stacked
        grid = self._grid
        below = self.editor.below
        for widget in (
            self._label_side,
            self.editor,
            self._reset,
            self._help,
            self._problems,
            below,
        ):
            if widget is not None:
                grid.removeWidget(widget)
        if stacked:
            grid.addWidget(self._label_side, 0, 0, 1, 3)
            grid.addWidget(self.editor, 1, 0, 1, 2)
        else:
            grid.addWidget(self._label_side, 0, 0)
            grid.addWidget(self.editor, 0, 1)
        row = 1 if stacked else 0
        side = Qt.AlignmentFlag.AlignTop if self.editor.tall else Qt.AlignmentFlag.AlignVCenter
        grid.addWidget(self._reset, row, 2, side)
        if below is not None:
            grid.addWidget(below, row + 1, 0, 1, 3)
        grid.addWidget(self._help, row + 2, 0, 1, 3, Qt.AlignmentFlag.AlignTop)
        grid.addWidget(self._problems, row + 3, 0, 1, 3, Qt.AlignmentFlag.AlignTop)
        grid.setColumnStretch(1, 1)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Shift+F1 in the editor shows the help of this field; F1 belongs to the window."""
        if (
            event.type() == QEvent.Type.KeyPress
            and isinstance(event, QKeyEvent)
            and event.matches(QKeySequence.StandardKey.WhatsThis)
        ):
            self.toggle_help()
            return True
        return super().eventFilter(watched, event)

    def _make_label(self) -> QWidget:
        side = QWidget(self)
        row = QHBoxLayout(side)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        self._label = label = QLabel(self.spec.meta.label, side)
        label.setWordWrap(True)
        label.setBuddy(self.editor.control)
        label.setToolTip(self._tip())
        self._info = IconButton("info", f"About {self.spec.meta.label}", side)
        self._info.setObjectName(f"help:{self.path}")
        self._info.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self._info.setToolTip(self._tip())
        self._info.clicked.connect(self.toggle_help)
        row.addWidget(label, 1)
        row.addWidget(self._info)
        return side

    def _tip(self) -> str:
        meta = self.spec.meta
        unit = f" Unit: {meta.unit}." if meta.unit else ""
        return (
            f"<p>{meta.help}{unit}</p><p>Default: {self._default_words()}.</p><p>F1: {MORE.lower()}. "
            "Shift+F1: this text below the field.</p>"
        )

    def _name_after_input(self) -> None:
        """Name the node that is connected to the input of this field."""
        words = self._context.label(self.spec)
        if words != self._label.text():
            self._label.setText(words)
            self.editor.control.setAccessibleName(words)

    def _default_words(self) -> str:
        return words_for(self.spec, self.spec.default)

    def _edited(self, value: Any) -> None:
        self.value = value
        self._show_reset()
        self.changed.emit(Change(self.path, value, self.spec))

    def _wants_default(self) -> None:
        self.editor.control.setFocus(Qt.FocusReason.OtherFocusReason)
        self.set_value(self.spec.default)
        self.changed.emit(Change(self.path, self.spec.default, self.spec, reset=True))

    def _show_reset(self) -> None:
        self._reset.setVisible(not self.is_default and not self._read_only)

    def _apply_enabled(self) -> None:
        self.editor.set_read_only(self._read_only or bool(self.why_off))
        self._label_side.setEnabled(not self.why_off)
        self.editor.setToolTip(self.why_off)
        self._show_reset()
        self._describe()

    def _describe(self) -> None:
        parts = [self.spec.meta.help, self.why_off, self._problems.text()]
        self.editor.control.setAccessibleDescription(" ".join(p for p in parts if p))


def same(one: Any, other: Any) -> bool:
    """Equality that does not take True for 1."""
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _one_or_many(unit: str, value: float) -> str:
    """“1 row”, “2 rows”, “1 batch”: units are written in the plural."""
    if value != 1 or not unit.endswith("s") or len(unit) < 4:
        return unit
    return unit[:-2] if unit.endswith("ches") else unit[:-1]


def words_for(spec: FieldSpec, value: Any) -> str:
    """A value as the form shows it."""
    special: dict[Any, str] = dict(spec.meta.special)
    if isinstance(value, (str, int, float)) and value in special and not isinstance(value, bool):
        return special[value]
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)) and value:
        return line(", ".join(map(str, value)), MOST_IN_QUOTES)
    if spec.choices and not isinstance(value, (list, tuple)):
        return spec.choice_label(value)
    if isinstance(value, (int, float)):
        return f"{to_text(value)} {_one_or_many(spec.meta.unit, value)}".strip()
    return (
        line(str(value), MOST_IN_QUOTES)
        if value not in ("", None, [], {})
        else spec.meta.placeholder or "empty"
    )
