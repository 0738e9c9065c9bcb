"""Handling of a bug in the window: log its trace, notify the user once, and continue.

Set as ``sys.excepthook`` by ``ui.app``. Expected errors are StudioErrors and are shown where they
belong.
"""

from __future__ import annotations

import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QThread
from PySide6.QtWidgets import QApplication

from ui.dialogs.crash_dialog import CrashDialog
from ui.monitor.reveal import reveal

logger = logging.getLogger(__name__)


class CrashReporter:
    """Writes traces to ``log_path`` and shows one dialog at a time."""

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path
        self.showing = False

    def install(self) -> None:
        """Become the handler of uncaught exceptions."""
        sys.excepthook = self.handle

    def handle(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        """Log an exception; on the main thread, also show it."""
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
            return
        text = "".join(traceback.format_exception(kind, error, trace))
        sys.stderr.write(text)
        self._write(text)
        logger.error("uncaught: %s", error)
        app = QApplication.instance()
        if app is None or QThread.currentThread() is not app.thread() or self.showing:
            return
        self.showing = True
        try:
            self._show(error, text)
        finally:
            self.showing = False

    def _write(self, text: str) -> None:
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("a", encoding="utf-8") as file:
                file.write(text + "\n")
        except OSError as error:
            sys.stderr.write(f"cannot write the log: {error}\n")

    def _show(self, error: BaseException, text: str) -> None:
        dialog = CrashDialog(
            "Something went wrong",
            f"An unexpected error occurred: {type(error).__name__}: {error}",
            "Runs in a separate process continue. Save your project; if the window does not "
            f"respond correctly, restart LoRA Studio. Details were written to {self.log_path}.",
            text,
            QApplication.activeWindow(),
        )
        dialog.add_button("Show Log File").clicked.connect(self.show_log)
        dialog.exec()
        dialog.deleteLater()

    def show_log(self) -> None:
        """The log in the file manager."""
        reveal(self.log_path)
