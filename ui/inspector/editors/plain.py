"""Editors for numbers, switches, lines, paragraphs, lists and raw data."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QCheckBox, QLineEdit, QMenu, QPlainTextEdit, QToolButton, QWidget

from studio.graph.schema import FieldSpec
from ui.inspector.editors.base import FRAME_PX, Editor, FieldContext
from ui.inspector.editors.number_box import NumberBox
from ui.style.widgets import IconButton, plain_tip

_PARAGRAPH_LINES = 5
ALL = "*"
NONE_FOUND = "No choices found"


class NumberEditor(Editor):
    """An integer or decimal number."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._box = NumberBox(spec, self)
        self._box.value_edited.connect(self.edited)
        self.adopt(self._box)

    def needed_width(self) -> int:
        """Also the words for special values."""
        words = max(
            (self.fontMetrics().horizontalAdvance(w) for _, w in self.spec.meta.special), default=0
        )
        return max(super().needed_width(), words + FRAME_PX)

    def set_value(self, value: Any) -> None:
        """Show a number, or text that should have been one."""
        self._box.setValue(value)


class SwitchEditor(Editor):
    """A switch whose state is also shown as a word."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._box = QCheckBox(self)
        self._box.toggled.connect(self._say)
        self._box.clicked.connect(lambda checked: self.edited.emit(bool(checked)))
        self.adopt(self._box)
        self._say(False)

    def set_value(self, value: Any) -> None:
        """Show a switch; anything but true is off."""
        self._box.setChecked(value is True)

    def _say(self, checked: bool) -> None:
        self._box.setText("On" if checked else "Off")


class LineEditor(Editor):
    """One line of text."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self.line = QLineEdit(self)
        self.line.setPlaceholderText(spec.meta.placeholder)
        self.line.textEdited.connect(self._typed)
        self.adopt(self.line)

    def set_value(self, value: Any) -> None:
        """Show a text; the caret stays where it is while the text is the same."""
        text = self.to_text(value)
        if text == self.line.text():
            return
        position = self.line.cursorPosition()
        self.line.setText(text)
        self.line.setCursorPosition(position if self.line.hasFocus() else 0)
        self.line.setToolTip(plain_tip(text))

    def to_text(self, value: Any) -> str:
        """The text for a value."""
        return "" if value is None else str(value)

    def from_text(self, text: str) -> Any:
        """The value of a text."""
        return None if self.spec.optional and not text else text

    def _typed(self, text: str) -> None:
        self.edited.emit(self.from_text(text))


class NamesEditor(LineEditor):
    """One line of text, and a button that lists the names which are found when it is pressed."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        button = IconButton("chevron-down", f"Choose: {spec.meta.label}", self)
        button.setObjectName(f"choose:{path}")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.menu = QMenu(button)
        self.menu.setToolTipsVisible(True)
        self.menu.aboutToShow.connect(self._fill)
        button.setMenu(self.menu)
        self.row.addWidget(button)

    def _fill(self) -> None:
        self.menu.clear()
        found = self.context.choices(self.path)
        for name in found:
            words = f"All ({name})" if name == ALL else name.replace("&", "&&")
            action = self.menu.addAction(words, partial(self._chosen, name))
            action.setCheckable(True)
            action.setChecked(name == self.line.text())
        if not found:
            self.menu.addAction(NONE_FOUND).setEnabled(False)

    def _chosen(self, name: str) -> None:
        self.set_value(name)
        self.edited.emit(name)
        self.left.emit()


class ListEditor(LineEditor):
    """Several words in one line, with commas between them."""

    wide = True

    def to_text(self, value: Any) -> str:
        """Words with commas."""
        return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value or "")

    def from_text(self, text: str) -> Any:
        """The words, without blanks and empty ones."""
        return [word.strip() for word in text.split(",") if word.strip()]

    def set_value(self, value: Any) -> None:
        """Keep the text while it means the same list, so that a comma can be typed."""
        if self.line.hasFocus() and self.from_text(self.line.text()) == value:
            return
        super().set_value(value)


class DataEditor(LineEditor):
    """Raw JSON data, for fields without a better editor."""

    wide = True

    def to_text(self, value: Any) -> str:
        """JSON in one line; text that is not JSON unchanged."""
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def from_text(self, text: str) -> Any:
        """The data, or the text if it is not JSON."""
        try:
            return json.loads(text)
        except ValueError:
            return text

    def set_value(self, value: Any) -> None:
        """Keep the text while it means the same data."""
        if self.line.hasFocus() and self.from_text(self.line.text()) == value:
            return
        super().set_value(value)


class ParagraphEditor(Editor):
    """Several lines of text; Tab goes on to the next field."""

    wide = True

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._text = QPlainTextEdit(self)
        self._text.setTabChangesFocus(True)
        self._text.setPlaceholderText(spec.meta.placeholder)
        self._text.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._text.setFixedHeight(self._text.fontMetrics().lineSpacing() * _PARAGRAPH_LINES + 12)
        self._text.textChanged.connect(self._typed)
        self._shown = ""
        self.adopt(self._text)

    def set_value(self, value: Any) -> None:
        """Show a text; the caret stays where it is while the text is the same."""
        self._shown = str(value or "")
        if self._shown != self._text.toPlainText():
            self._text.setPlainText(self._shown)

    def _typed(self) -> None:
        text = self._text.toPlainText()
        if text != self._shown:
            self._shown = text
            self.edited.emit(text)

    def _takes_wheel(self) -> bool:
        return self._text.hasFocus()
