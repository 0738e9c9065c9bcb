"""Handling of an exception that nothing in the window has handled: log its trace, notify the user
once, and continue.

Set as ``sys.excepthook`` by ``ui.app``. Expected errors are StudioErrors and are shown where they
belong. An error of the system (a disk, a folder, memory) is described in words; anything else is a
bug.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType

from PySide6.QtCore import QThread
from PySide6.QtWidgets import QApplication

from studio.errors import StudioError
from studio.runs.failures import as_studio_error
from studio.shown_text import sentence
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
        known = as_studio_error(error)
        _print(text if known is None else f"{known.sentence} {known.hint}\n")
        self._write(text)
        logger.error("uncaught: %s", error)
        app = QApplication.instance()
        if app is None or QThread.currentThread() is not app.thread() or self.showing:
            return
        self.showing = True
        try:
            self._show(error, known, text)
        finally:
            self.showing = False

    def _write(self, text: str) -> None:
        try:
            self.log_path.parent.mkdir(parents=True, exist_ok=True)
            with self.log_path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text + "\n")
        except OSError as error:
            _print(f"cannot write the log: {error}\n")

    def _show(self, error: BaseException, known: StudioError | None, text: str) -> None:
        unexpected = f"An unexpected error occurred: {type(error).__name__}: {error}"
        hint = known.hint + " " if known is not None else ""
        dialog = CrashDialog(
            known.title if known is not None else "Something went wrong",
            known.sentence if known is not None else sentence(unexpected),
            f"{hint}Runs in a separate process continue. Save your project; if the window does not "
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


def _print(text: str) -> None:
    """Write to standard error, which may be closed, and which pythonw on Windows does not have."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # UnicodeEncodeError is a ValueError
            sys.stderr.write(text)
