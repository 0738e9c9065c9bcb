"""Labels, small buttons and helpers for layouts and trees, shared by all rooms.

Colours come from the theme.
"""

from __future__ import annotations

import itertools
import re

from PySide6.QtCore import QEvent, QSize, Qt
from PySide6.QtGui import (
    QClipboard,
    QContextMenuEvent,
    QGuiApplication,
    QKeyEvent,
    QKeySequence,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPalette,
)
from PySide6.QtGui import Qt as GuiQt
from PySide6.QtWidgets import (
    QFrame,
    QLabel,
    QLayout,
    QMenu,
    QScrollArea,
    QSizePolicy,
    QToolButton,
    QTreeWidget,
    QTreeWidgetItem,
    QWidget,
)

from ui.style import icons, theme

NUMBER_LEFT_PX = 6
"""Space before the text of a ``QSpinBox``, which takes no padding from the style sheet."""
FRAME = QSize(40, 60)
"""What the title bar and the borders of a window take at most, with a little space around them."""


def icon_side(widget: QWidget, share: float = 0.9) -> int:
    """The side (pixels) of an icon beside this widget's text; it grows with the font."""
    return max(14, round(widget.fontMetrics().height() * share))


def resize_on_screen(dialog: QWidget, width: int, height: int) -> None:
    """Resize a dialog, but to no more than the screen holds: its buttons are at its lower edge."""
    dialog.resize(QSize(width, height).boundedTo(room_on_screen(dialog)))


def room_on_screen(dialog: QWidget) -> QSize:
    """The size of the largest dialog on its screen."""
    return dialog.screen().availableGeometry().size() - FRAME


def fit(dialog: QWidget, layout: QLayout, digits: int) -> None:
    """Size a dialog with this layout to a width in digits of its font, or wider if its buttons need
    it, and to the height of its texts."""
    wanted = dialog.fontMetrics().horizontalAdvance("0") * digits
    width = max(wanted, layout.totalMinimumSize().width())
    dialog.setMinimumWidth(width)
    if layout.hasHeightForWidth():
        resize_on_screen(dialog, width, layout.totalHeightForWidth(width))


def row_size(widget: QWidget) -> QSize:
    """The size of a row in a list, for views that measure their rows without padding."""
    return QSize(0, round(widget.fontMetrics().height() * 1.7))


def retire(widget: QWidget) -> None:
    """Delete a widget later, and free its object names at once."""
    widget.hide()
    for named in (widget, *widget.findChildren(QWidget)):
        named.setObjectName("")
    widget.deleteLater()


def clear(layout: QLayout, keep: int = 0) -> None:
    """Remove all but the first ``keep`` items from a layout, and delete their widgets."""
    while (item := layout.takeAt(keep)) is not None:
        widget = item.widget()
        if widget is not None:
            retire(widget)


def top_items(tree: QTreeWidget) -> list[QTreeWidgetItem]:
    """The top-level items of a tree, in order."""
    found = (tree.topLevelItem(row) for row in range(tree.topLevelItemCount()))
    return [item for item in found if item is not None]


def child_items(item: QTreeWidgetItem) -> list[QTreeWidgetItem]:
    """The children of an item of a tree, in order."""
    found = (item.child(row) for row in range(item.childCount()))
    return [child for child in found if child is not None]


def tab_order(*widgets: QWidget) -> None:
    """Set the tab order of these widgets to their visual order."""
    for before, behind in itertools.pairwise(widgets):
        QWidget.setTabOrder(before, behind)


def scrolling(inside: QWidget | None, parent: QWidget) -> QScrollArea:
    """A vertical scroll area for a widget as wide as its parent."""
    scroll = QScrollArea(parent)
    scroll.setWidgetResizable(True)
    scroll.setFrameShape(QFrame.Shape.NoFrame)
    scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
    if inside is not None:
        scroll.setWidget(inside)
    return scroll


_BREAK = "\u200b"
_LETTERS = r"[!-~\u00a1-\u024f\u0370-\u04ff]"
_WORD, _LONG_WORD = re.compile(_LETTERS + "{9,}"), re.compile(_LETTERS + "{24,}")
_PARTS = re.compile(r"(?<=[_.\-/\\=,:;\]])|(?<=[a-z])(?=[A-Z])")


def plain_tip(text: str) -> str:
    """A received text as a tooltip: markup in it is shown as it is written. Tooltips have no text format."""
    return GuiQt.convertFromPlainText(text) if GuiQt.mightBeRichText(text) else text


def breakable(text: str) -> str:
    """The text with invisible places where long words (paths, names of columns, hashes) may continue on
    the next line: at their separators, and anywhere in parts without one."""
    return _WORD.sub(lambda word: _BREAK.join(map(_loose, _PARTS.split(word[0]))), text)


def _loose(part: str) -> str:
    return part if not _LONG_WORD.match(part) else _BREAK.join(part)


class TextLabel(QLabel):
    """Plain text that wraps, also inside long words, and never widens its parent. ``text`` and what is
    copied are without the places where words may be broken."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._text = ""
        self.setText(text)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setWordWrap(True)
        policy = QSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Minimum)
        policy.setHeightForWidth(True)
        self.setSizePolicy(policy)

    def setText(self, text: str) -> None:
        """Qt: show a text."""
        self._text = text
        super().setText(breakable(text))

    def text(self) -> str:
        """Qt: the text as it was given."""
        return self._text

    def selectedText(self) -> str:
        """Qt: the selected text as it was given."""
        selected = super().selectedText()
        return selected.replace(_BREAK, "") if self._is_broken() else selected

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Qt: copy the text as it was given."""
        if self.hasSelectedText() and event.matches(QKeySequence.StandardKey.Copy):
            self._copy()
        else:
            super().keyPressEvent(event)

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Qt: the middle button, where it pastes the selection, pastes the text as it was given, too."""
        super().mouseReleaseEvent(event)
        clipboard = QGuiApplication.clipboard()
        if clipboard.supportsSelection() and self.hasSelectedText():
            clipboard.setText(self.selectedText(), QClipboard.Mode.Selection)

    def contextMenuEvent(self, event: QContextMenuEvent) -> None:
        """Qt: the menu of a selectable text."""
        if not self.textInteractionFlags() & Qt.TextInteractionFlag.TextSelectableByMouse:
            super().contextMenuEvent(event)
            return
        menu = QMenu(self)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction("Copy", self._copy).setEnabled(self.hasSelectedText())
        menu.addAction("Select All", lambda: self.setSelection(0, len(breakable(self._text))))
        menu.popup(event.globalPos())

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.selectedText())

    def _is_broken(self) -> bool:
        return len(super().text()) > len(self._text)


class ElidedLabel(QLabel):
    """One line of plain text that is elided where it does not fit, and then has a tooltip."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent, textFormat=Qt.TextFormat.PlainText)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Preferred)

    def minimumSizeHint(self) -> QSize:
        """Qt: it may become as narrow as needed."""
        return QSize(0, super().minimumSizeHint().height())

    def setText(self, text: str) -> None:
        """Qt: show a text."""
        if text != self.text():
            super().setText(text)
            self.setToolTip(plain_tip(text))

    def paintEvent(self, event: QPaintEvent) -> None:
        """Qt: paint the part that fits."""
        del event
        area = self.contentsRect()
        shown = self.fontMetrics().elidedText(
            self.text(), Qt.TextElideMode.ElideRight, area.width()
        )
        painter = QPainter(self)
        painter.setPen(self.palette().color(self.foregroundRole()))
        painter.drawText(area, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, shown)


class MutedLabel(TextLabel):
    """Secondary text, in the palette's placeholder colour."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        self.setForegroundRole(QPalette.ColorRole.PlaceholderText)


class ErrorLabel(TextLabel):
    """An error message in the colour of the theme."""

    def __init__(self, text: str = "", parent: QWidget | None = None) -> None:
        super().__init__(text, parent)
        theme.changed.connect(self._paint)
        self._paint()

    def _paint(self) -> None:
        palette = QPalette(self.palette())
        palette.setColor(QPalette.ColorRole.WindowText, theme.colors().danger)
        self.setPalette(palette)


class IconButton(QToolButton):
    """A small flat button with an icon that grows with the font."""

    def __init__(self, name: str, words: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAutoRaise(True)
        self.setToolTip(words)
        self.setAccessibleName(words)
        self.setStyleSheet(
            "QToolButton { padding: 1px; border-radius: 4px; } QToolButton::menu-indicator { image: none; }"
        )
        icons.put(self, name, "text_muted")
        self._size()

    def changeEvent(self, event: QEvent) -> None:
        """Grow with the font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._size()

    def _size(self) -> None:
        side = icon_side(self)
        self.setIconSize(QSize(side, side))
        self.setFixedSize(side + 6, side + 6)
