"""Links to the guide: which page a widget is explained on, and text that opens it.

A place is ``page.md#section``. Links are addresses of the scheme ``guide``, which the window handles; nothing is sent
to a network.
"""

from __future__ import annotations

from PySide6.QtCore import Qt, QUrl
from PySide6.QtGui import QDesktopServices, QKeySequence, QShortcut
from PySide6.QtWidgets import QDialog, QLabel, QWidget

from ui.style.widgets import IconButton

SCHEME = "guide"
MORE = "More in the Guide"
_PLACE = "guide-place"


def explain(widget: QWidget, place: str) -> None:
    """Set the place that F1 opens in this widget and those in it that have none. A dialog gets the key itself: keys
    of the main window do not reach it."""
    known = widget.property(_PLACE) is not None
    widget.setProperty(_PLACE, place)
    if isinstance(widget, QDialog) and not known:
        key = QShortcut(QKeySequence(Qt.Key.Key_F1), widget)
        key.activated.connect(lambda: open_guide(explained_at(widget.focusWidget() or widget)))


def explained_at(widget: QWidget | None) -> str:
    """The place of a widget, or of the nearest one around it that has one; empty if there is none."""
    while widget is not None:
        place = widget.property(_PLACE)
        if place:
            return str(place)
        widget = None if widget.isWindow() else widget.parentWidget()
    return ""


def open_guide(place: str) -> None:
    """Open the guide at a place."""
    QDesktopServices.openUrl(QUrl(f"{SCHEME}:{place}"))


class GuideLink(QLabel):
    """“More in the Guide” as a link, for mouse and keyboard."""

    def __init__(self, place: str, parent: QWidget | None = None) -> None:
        super().__init__(f'<a href="{SCHEME}:{place}">{MORE}</a>', parent)
        self.setObjectName("guide-link")
        self.setAccessibleName(MORE)
        self.setTextFormat(Qt.TextFormat.RichText)
        self.setTextInteractionFlags(
            Qt.TextInteractionFlag.LinksAccessibleByMouse
            | Qt.TextInteractionFlag.LinksAccessibleByKeyboard
        )
        self.setOpenExternalLinks(True)
        self.setMinimumWidth(1)  # it never keeps a panel wide
        self.setToolTip("Open the guide at the page about this (F1)")
        explain(self, place)


class GuideButton(IconButton):
    """A small button that opens the guide at a place; hidden without one."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("book-open", f"{MORE} (F1)", parent)
        self.setObjectName("guide-button")
        self.setAccessibleName(MORE)
        self._place = ""
        self.clicked.connect(lambda: open_guide(self._place))
        self.hide()

    def show_place(self, place: str) -> None:
        """Lead to this place."""
        self._place = place
        self.setVisible(bool(place))
