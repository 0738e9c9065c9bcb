"""The program's settings while it runs: read once, changed in one place, saved at every change.

Constructed by ``ui.app`` and handed to those who need it. A file that cannot be written is
reported, never fatal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from studio.errors import StudioError
from studio.system.settings import AppSettings, save_settings


class Preferences(QObject):
    """``values`` are the current settings; ``changed`` is emitted after every change,
    ``save_failed`` carries a StudioError if they could not be saved."""

    changed = Signal()
    save_failed = Signal(object)

    def __init__(self, values: AppSettings, path: Path | None = None) -> None:
        super().__init__()
        self.values = values
        self._path = path

    def change(self, **updates: Any) -> None:
        """Change some settings and save them."""
        self.replace(self.values.model_copy(update=updates))

    def replace(self, values: AppSettings) -> None:
        """Replace and save the settings; equal ones change nothing."""
        if values == self.values:
            return
        self.values = values
        try:
            save_settings(values, self._path)
        except StudioError as error:
            self.save_failed.emit(error)
        self.changed.emit()

    def recent(self) -> list[Path]:
        """Projects that were opened or saved and are still there, the last one first."""
        return [Path(text) for text in self.values.recent if Path(text).is_file()]
