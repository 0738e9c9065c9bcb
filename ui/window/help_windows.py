"""Opens the windows of ``ui.dialogs`` on demand.

They are imported on first use, so that the first paint does not wait for them. They are not modal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QApplication, QDialog

from studio.graph import guide
from studio.graph.templates import Template
from studio.system.optional_packages import OptionalPackage
from ui.style.guide_link import explain, explained_at
from ui.window.main_window import MainWindow
from ui.window.preferences import Preferences


def _open(dialog: QDialog) -> None:
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    if not explained_at(dialog):
        explain(dialog, guide.INDEX)
    dialog.open()


def show_settings(window: MainWindow, preferences: Preferences) -> None:
    """Open the settings window; accepted settings apply at once."""
    from ui.dialogs.settings_dialog import SettingsDialog

    dialog = SettingsDialog(preferences.values, window)
    dialog.accepted_settings.connect(preferences.replace)
    _open(dialog)


def show_templates(window: MainWindow, take: Callable[[Template], object]) -> None:
    """The templates for a new project; ``take`` gets the chosen one."""
    from ui.dialogs.new_from_template import NewFromTemplate

    dialog = NewFromTemplate(window.canvas.registry, window)
    dialog.chosen.connect(take)
    _open(dialog)


def show_shortcuts(window: MainWindow) -> None:
    """All keys on one sheet."""
    from ui.dialogs.shortcut_sheet import ShortcutSheet

    groups = {
        "Project and run": list(window.own.values()),
        "Canvas": list(window.canvas.actions().values()),
    }
    _open(ShortcutSheet(groups, parent=window))


def show_guide(window: MainWindow, place: str) -> None:
    """The guide at a place such as ``memory.md#make-it-fit``. It stays open beside the window, or beside a dialog
    that blocks the window."""
    from ui.dialogs.guide import GuideWindow

    parent = QApplication.activeModalWidget() or window
    opened = [w for w in parent.findChildren(GuideWindow) if w.isVisible()]
    dialog = opened[0] if opened else GuideWindow(parent=parent)
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.show_page(place)
    dialog.show()
    dialog.raise_()
    dialog.activateWindow()


def show_install(
    window: MainWindow, package: OptionalPackage, installed: Callable[[str], object]
) -> None:
    """The installation of an optional package, which stays open beside the window; ``installed`` gets the sentence
    about its result."""
    from ui.dialogs.install_package import InstallDialog

    opened = [d for d in window.findChildren(InstallDialog) if d.isVisible()]
    dialog = next((d for d in opened if d.package is package), None)
    if dialog is None:
        dialog = InstallDialog(package, window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.installed.connect(installed)
        explain(dialog, guide.PARTS["install"])
    dialog.show()
    dialog.raise_()
    dialog.activateWindow()


def end_installs(window: MainWindow) -> None:
    """End downloads of optional packages: the window closes."""
    if (module := sys.modules.get("ui.dialogs.install_package")) is not None:
        for dialog in window.findChildren(module.InstallDialog):
            dialog.stop()


def show_about(window: MainWindow) -> None:
    """Version and licence."""
    from ui.dialogs.about import AboutDialog

    _open(AboutDialog(window))
