"""What a screen reader is told: the node that the keyboard is at, in one line.

Why not an interface per node: objects of ``QAccessibleInterface`` made in Python are owned by Qt's
cache and by Python alike, and the program crashes when it ends (PySide6 6.11). The canvas speaks
through its accessible description and through announcements instead.
"""

from __future__ import annotations

from PySide6 import QtGui
from PySide6.QtGui import QAccessible
from PySide6.QtWidgets import QWidget

NOTHING = "Nothing selected"


def describe(view: QWidget, text: str, place: int, count: int) -> None:
    """Say where the keyboard is; ``place`` counts from 1, an empty ``text`` means nowhere."""
    line = f"{text}, {place} of {count}" if text else NOTHING
    if line == view.accessibleDescription():
        return
    view.setAccessibleDescription(line)
    announcement = getattr(QtGui, "QAccessibleAnnouncementEvent", None)  # Qt 6.8 and newer
    if text and announcement is not None and QAccessible.isActive() and view.hasFocus():
        QAccessible.updateAccessibility(announcement(view, line))
