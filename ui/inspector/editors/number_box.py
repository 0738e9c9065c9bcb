"""A box for integers and decimal numbers that keeps the typed text, even if it is invalid.

Qt's spin boxes reject or change text outside the limits; here the limits apply to the arrows only,
and typed text is passed on unchanged, so that a Problem can describe the error.
"""

from __future__ import annotations

from typing import Any

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QFocusEvent, QPalette, QResizeEvent, QValidator
from PySide6.QtWidgets import QAbstractSpinBox, QLabel, QWidget

from studio.graph.schema import FieldSpec
from ui.inspector.editors import number_text

_UNIT_GAP_PX = 6
_TEXT_LEFT_PX = 8
_ROOM_FOR_DIGITS = "000000"


class NumberBox(QAbstractSpinBox):
    """Typed limits, steps that suit the field (2e-4 → 5e-4, 16 → 32), special words, a unit.

    ``value()`` is the number, or the text if it is not a number.
    """

    value_edited = Signal(object)

    def __init__(self, spec: FieldSpec, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._spec = spec
        self._integer = spec.kind == "int"
        self._special = dict(spec.meta.special)
        self._value: Any = spec.default
        self._unit = QLabel(spec.meta.unit, self.lineEdit())
        self._unit.setForegroundRole(QPalette.ColorRole.PlaceholderText)
        self._unit.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self.setAccelerated(True)
        self.setKeyboardTracking(True)
        self.lineEdit().textEdited.connect(self._typed)
        self.setValue(spec.default)

    def value(self) -> Any:
        """The number, or the text if it is not a number."""
        return self._value

    def setValue(self, value: Any) -> None:
        """Show a value; emits nothing. The text stays if it already has this value."""
        if self.hasFocus() and self._read() == value and value == self._value:
            return
        self._value = value
        self._show()

    def stepBy(self, steps: int) -> None:
        """Move by steps, within the limits."""
        wanted = self._next(steps)
        if wanted is None:
            return
        self._value = wanted
        self._show()
        self.lineEdit().selectAll()
        self.value_edited.emit(wanted)

    def stepEnabled(self) -> QAbstractSpinBox.StepEnabledFlag:
        """The enabled arrows."""
        flag = QAbstractSpinBox.StepEnabledFlag
        found = flag.StepNone
        if self.isReadOnly():
            return found
        if self._next(1) is not None:
            found |= flag.StepUpEnabled
        if self._next(-1) is not None:
            found |= flag.StepDownEnabled
        return found

    def validate(self, text: str, position: int) -> tuple[QValidator.State, str, int]:
        """Accept any text; errors are shown at the field."""
        return QValidator.State.Acceptable, text, position

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """Commit the text."""
        if event.reason() != Qt.FocusReason.PopupFocusReason:
            self.commit()
        super().focusOutEvent(event)

    def commit(self) -> None:
        """Emit invalid text, or format a number; an empty box shows its value again."""
        text = self.lineEdit().text()
        if not text.strip() and self._spec.optional and self._value is not None:
            self._value = None
            self.value_edited.emit(None)
        elif text.strip() and self._read() is None and text != self._value:
            self._value = text
            self.value_edited.emit(text)
        self._show()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Keep the unit at the right edge, and only where digits have room too."""
        super().resizeEvent(event)
        self._place_unit()

    def changeEvent(self, event: QEvent) -> None:
        """Place the unit again when the font or style changes."""
        super().changeEvent(event)
        if hasattr(self, "_unit"):
            self._place_unit()

    def sizeHint(self) -> QSize:
        """Room for a number and its unit."""
        extra = self._unit.sizeHint().width() if self._unit.text() else 0
        hint = super().sizeHint()
        width = self.fontMetrics().horizontalAdvance(_ROOM_FOR_DIGITS) + 40
        return QSize(max(hint.width(), width + extra), hint.height())

    def minimumSizeHint(self) -> QSize:
        """A number must always be readable."""
        width = self.fontMetrics().horizontalAdvance(_ROOM_FOR_DIGITS) + 40
        return QSize(width, super().minimumSizeHint().height())

    def _typed(self, text: str) -> None:
        number = self._read()
        self._place_unit()
        if number is not None:
            self._value = number
            self.value_edited.emit(number)
        elif not number_text.may_continue(text):
            self._value = text
            self.value_edited.emit(text)

    def _read(self) -> Any:
        text = self.lineEdit().text()
        for value, words in self._special.items():
            if text.strip().casefold() == words.casefold():
                return value
        return number_text.from_text(text, self._integer)

    def _show(self) -> None:
        value = self._value
        text = self._special.get(value) if _is_number(value) else None
        if text is None:
            text = number_text.to_text(value) if _is_number(value) else str(value or "")
        if text != self.lineEdit().text():
            position = self.lineEdit().cursorPosition()
            self.lineEdit().setText(text)
            self.lineEdit().setCursorPosition(min(position, len(text)) if self.hasFocus() else 0)
        self._place_unit()

    def _moved(self, value: Any, steps: int) -> Any:
        meta = self._spec.meta
        if meta.log_scale and self._integer:
            return number_text.step_doubling(value, steps)
        if meta.log_scale:
            return number_text.step_decades(value, steps)
        return number_text.step_plain(value, steps, meta.step or (1 if self._integer else 0.1))

    def _next(self, steps: int) -> Any:
        """The value ``steps`` steps away within the limits; ``None`` if there is none."""
        current = self._read()
        if not _is_number(current):
            return None
        wanted = self._moved(current, steps)
        lowest, highest = self._limits()
        wanted = wanted if lowest is None else max(wanted, lowest)
        wanted = wanted if highest is None else min(wanted, highest)
        return wanted if (wanted - current) * steps > 0 else None

    def _limits(self) -> tuple[Any, Any]:
        spec = self._spec
        low, high = spec.minimum, spec.maximum
        if low is not None and spec.exclusive_minimum:
            low = self._inside(low, 1)
        if high is not None and spec.exclusive_maximum:
            high = self._inside(high, -1)
        return low, high

    def _inside(self, limit: float, direction: int) -> Any:
        if self._integer:
            return int(limit) + direction
        tiny = 1e-9 if self._spec.meta.log_scale else 1e-6
        return number_text.step_plain(limit, direction, self._spec.meta.step or tiny)

    def _place_unit(self) -> None:
        edit, unit = self.lineEdit(), self._unit
        width = unit.sizeHint().width() + _UNIT_GAP_PX
        text = max(edit.text(), "0000", key=len)
        digits = edit.fontMetrics().horizontalAdvance(text) + 2 * _TEXT_LEFT_PX
        shown = bool(unit.text()) and _is_number(self._read()) and not self._is_special()
        shown = shown and edit.width() >= width + digits
        unit.setVisible(shown)
        left = max(0, _TEXT_LEFT_PX - edit.x())
        edit.setTextMargins(left, 0, width if shown else 0, 0)
        unit.setGeometry(edit.width() - width, 0, width - 2, edit.height())

    def _is_special(self) -> bool:
        return self.lineEdit().text() in self._special.values()


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
