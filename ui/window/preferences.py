"""The program's settings while it runs: read once, changed in one place, saved at every change.

Constructed by ``ui.app`` and handed to those who need it. A file that cannot be written is told,
never fatal.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject, Signal

from studio.errors import StudioError
from studio.system.settings import AppSettings, save_settings


class Preferences(QObject):
    """``values`` are the settings of now; ``changed`` follows every change, ``trouble`` carries a
    StudioError when they could not be saved."""

    changed = Signal()
    trouble = Signal(object)

    def __init__(self, values: AppSettings, path: Path | None = None) -> None:
        super().__init__()
        self.values = values
        self._path = path

    def change(self, **updates: Any) -> None:
        """Change some settings and save them."""
        self.replace(self.values.model_copy(update=updates))

    def replace(self, values: AppSettings) -> None:
        """Take other settings and save them; the same ones change nothing."""
        if values == self.values:
            return
        self.values = values
        try:
            save_settings(values, self._path)
        except StudioError as error:
            self.trouble.emit(error)
        self.changed.emit()

    def recent(self) -> list[Path]:
        """Projects that were opened or saved and are still there, the last one first."""
        return [Path(text) for text in self.values.recent if Path(text).is_file()]
