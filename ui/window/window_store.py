"""The stored state of the window: its geometry, its docks, the last project.

An INI file in the config folder, so that it can be read, copied and deleted by hand. Settings that
change what a run does, and recent projects, are in ``studio.system.settings``.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QByteArray, QSettings
from PySide6.QtWidgets import QMainWindow

LAYOUT_VERSION = 1


class WindowStore:
    """The window's INI file."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._settings = QSettings(str(path), QSettings.Format.IniFormat)

    # ------------------------------------------------------------ place

    def save_layout(self, window: QMainWindow) -> None:
        """Keep the window's size, place and docks."""
        self._settings.setValue("window/geometry", window.saveGeometry())
        self._settings.setValue("window/docks", window.saveState(LAYOUT_VERSION))
        self._settings.sync()

    def is_first_start(self) -> bool:
        """Whether no window was closed before."""
        return not self._settings.contains("window/geometry")

    def restore_layout(self, window: QMainWindow) -> bool:
        """Put the window where it was; False on the first start."""
        geometry = self._settings.value("window/geometry")
        docks = self._settings.value("window/docks")
        if not isinstance(geometry, QByteArray) or not isinstance(docks, QByteArray):
            return False
        return window.restoreGeometry(geometry) and window.restoreState(docks, LAYOUT_VERSION)

    def narrow_px(self) -> int:
        """The width of the inspector before it was widened; 0 if it is not wide."""
        text = str(self._settings.value("inspector/narrow_px") or "0")
        return int(text) if text.isdigit() else 0

    def set_narrow_px(self, width: int) -> None:
        """Store that width; 0 if the inspector is not wide."""
        self._settings.setValue("inspector/narrow_px", width)
        self._settings.sync()

    def panel(self) -> str:
        """``open`` or ``closed`` if the user has opened or closed the panel below the canvas, else empty."""
        return str(self._settings.value("panel/choice") or "")

    def set_panel(self, shown: bool) -> None:
        """Store that choice."""
        self._settings.setValue("panel/choice", "open" if shown else "closed")
        self._settings.sync()

    def all_settings(self) -> bool:
        """Whether the inspector shows all settings, not only the essential ones."""
        return str(self._settings.value("inspector/all_settings")) == "1"

    def set_all_settings(self, shown: bool) -> None:
        """Store that choice."""
        self._settings.setValue("inspector/all_settings", "1" if shown else "0")
        self._settings.sync()

    # ------------------------------------------------------------ projects

    def last_project(self) -> Path | None:
        """The project that was open last, if it is still there; ``None`` means the starter."""
        text = self._settings.value("projects/last")
        return Path(str(text)) if text and Path(str(text)).is_file() else None

    def set_last_project(self, path: Path | None) -> None:
        """The project to open next time; ``None`` for the starter."""
        self._settings.setValue("projects/last", str(path) if path else "")
        self._settings.sync()
