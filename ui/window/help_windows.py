"""Opens the small windows of ``ui.dialogs`` when they are asked for.

They are imported here and only then: the first paint does not wait for them. They block nothing:
a run goes on behind them.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QDialog

from ui.window.main_window import MainWindow
from ui.window.preferences import Preferences


def _open(dialog: QDialog) -> None:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.open()


def show_settings(window: MainWindow, preferences: Preferences) -> None:
    """The settings window; what is accepted is taken over at once."""
    from ui.dialogs.settings_dialog import SettingsDialog

    dialog = SettingsDialog(preferences.values, window)
    dialog.accepted_settings.connect(preferences.replace)
    _open(dialog)


def show_shortcuts(window: MainWindow) -> None:
    """All keys on one sheet."""
    from ui.dialogs.shortcut_sheet import ShortcutSheet

    groups = {
        "Project and run": list(window.own.values()),
        "Canvas": list(window.canvas.actions().values()),
    }
    _open(ShortcutSheet(groups, parent=window))


def show_about(window: MainWindow) -> None:
    """Version and licence."""
    from ui.dialogs.about import AboutDialog

    _open(AboutDialog(window))
