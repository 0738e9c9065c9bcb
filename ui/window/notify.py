"""Tells that a run has ended when the window is not in front.

A message of the system tray where there is one, else the task bar entry asks for attention. Never a
dialog and never a sound of our own.
"""

from __future__ import annotations

from PySide6.QtWidgets import QApplication, QMainWindow, QSystemTrayIcon

SHOWN_MS = 8000


class Notifier:
    """Notifications for one window; the tray icon exists only while a message is shown."""

    def __init__(self, window: QMainWindow) -> None:
        self._window = window
        self._tray: QSystemTrayIcon | None = None

    def tell(self, title: str, text: str) -> None:
        """Tell it, unless the window has the user's attention anyway."""
        if self._window.isActiveWindow():
            return
        QApplication.alert(self._window)
        if not (QSystemTrayIcon.isSystemTrayAvailable() and QSystemTrayIcon.supportsMessages()):
            return
        if self._tray is None:
            self._tray = QSystemTrayIcon(self._window.windowIcon(), self._window)
            self._tray.messageClicked.connect(self._window.activateWindow)
        self._tray.show()
        self._tray.showMessage(title, text, self._window.windowIcon(), SHOWN_MS)

    def close(self) -> None:
        """Take the tray icon away."""
        if self._tray is not None:
            self._tray.hide()
