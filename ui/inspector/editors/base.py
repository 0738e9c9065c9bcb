"""The base of all editors: a control for one value, with a signal for edits by the user.

``set_value`` never emits. The wheel scrolls the panel unless the control has the focus, and undo
keys go to the window, since the document has the undo history.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QFocusEvent, QKeyEvent, QKeySequence
from PySide6.QtWidgets import QAbstractSpinBox, QHBoxLayout, QLineEdit, QWidget

from studio.graph.node_type import Option
from studio.graph.registry import Registry
from studio.graph.schema import FieldSpec

_DIGITS = 10
FRAME_PX = 44
_UNDO_KEYS = (QKeySequence.StandardKey.Undo, QKeySequence.StandardKey.Redo)


@dataclass(frozen=True)
class FieldContext:
    """The environment of an editor.

    ``base_model`` gives the model that flows into the node of this form, as its setting is
    written, or ``None``. With ``relative_paths`` a path in the project's folder is stored
    relative to it. ``value`` gives another setting of the same node, ``base_value`` one of the node
    that the model comes from; ``None`` where there is none. ``edit_many`` stores several settings of
    this node as one step to undo, under the words for it. ``choices`` lists what a field with the widget
    ``names`` can be, ``options`` what the choices of a field mean in this project. ``choose_model`` opens
    the base model chooser for this node. ``guide_place`` gives the place of the guide that explains a field, by
    its path. ``label`` is that of a field, which names the connected node if it belongs to an input;
    ``connected`` is whether there is one.
    """

    registry: Registry
    project_dir: Callable[[], Path]
    base_model: Callable[[], str | None] = lambda: None
    relative_paths: bool = True
    value: Callable[[str], object] = lambda name: None
    base_value: Callable[[str], object] = lambda name: None
    edit_many: Callable[[Mapping[str, Any], str], None] | None = None
    choices: Callable[[str], Sequence[str]] = lambda path: ()
    choose_model: Callable[[], None] | None = None
    options: Callable[[str], Sequence[Option]] = lambda path: ()
    guide_place: Callable[[str, FieldSpec], str] = lambda path, spec: ""
    label: Callable[[FieldSpec], str] = lambda spec: spec.meta.label
    connected: Callable[[str], bool] = lambda port: True


class Editor(QWidget):
    """Base of the editors: ``edited`` carries the new value, ``left`` is emitted when it loses the
    focus."""

    edited = Signal(object)
    left = Signal()
    wide = False
    """Whether this editor needs the full width, below its label."""
    tall = False
    """Whether it has many lines; the reset button is then beside the first."""
    below: QWidget | None = None
    """What is shown under the field, as wide as the form."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.spec = spec
        self.path = path
        self.context = context
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(0, 0, 0, 0)
        self.row.setSpacing(4)

    def adopt(self, control: QWidget) -> None:
        """Use ``control`` for the focus, the accessible name and the description."""
        self.control = control
        control.setObjectName(f"field:{self.path}")
        for named in (
            control,
            *control.findChildren(QLineEdit),
        ):  # also the line of an editable list
            named.setAccessibleName(self.spec.meta.label)
        control.setAccessibleDescription(described(self.spec))
        control.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        control.installEventFilter(self)
        self.setFocusProxy(control)
        self.row.addWidget(control, 1)

    def number_width(self) -> int:
        """The width (pixels) of a number."""
        return self.fontMetrics().horizontalAdvance("0") * _DIGITS + FRAME_PX

    def needed_width(self) -> int:
        """The width (pixels) below which the value could not be read."""
        return self.number_width()

    def set_value(self, value: Any) -> None:
        """Show a value; emits nothing."""
        raise NotImplementedError

    def set_read_only(self, read_only: bool) -> None:
        """Make the editor read-only, or editable again."""
        self.setEnabled(not read_only)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Wheel, undo keys and the loss of focus; see above."""
        kind = event.type()
        if kind == QEvent.Type.Wheel and not self._takes_wheel():
            event.ignore()
            return True
        if is_undo_key(event):
            event.ignore()
            return True
        if kind == QEvent.Type.FocusOut:
            assert isinstance(event, QFocusEvent)
            if event.reason() != Qt.FocusReason.PopupFocusReason:
                self.left.emit()
        return super().eventFilter(watched, event)

    def _takes_wheel(self) -> bool:
        return isinstance(self.control, QAbstractSpinBox) and self.control.hasFocus()


def is_undo_key(event: QEvent) -> bool:
    """Whether this is Undo or Redo on the keyboard, which belong to the document."""
    if event.type() not in (QEvent.Type.ShortcutOverride, QEvent.Type.KeyPress):
        return False
    return isinstance(event, QKeyEvent) and any(event.matches(key) for key in _UNDO_KEYS)


def described(spec: FieldSpec) -> str:
    """The help of a field with its unit, for screen readers."""
    unit = f" Unit: {spec.meta.unit}." if spec.meta.unit else ""
    return f"{spec.meta.help}{unit}"
