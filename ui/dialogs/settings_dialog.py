"""The settings of the program, in the same generated form as those of a node.

It shows values and emits new ones; it saves nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from PySide6.QtCore import QEvent, Signal
from PySide6.QtWidgets import QDialog, QDialogButtonBox, QPushButton, QVBoxLayout, QWidget

from studio.graph.registry import Registry
from studio.graph.schema import Settings, fields_of, setting
from studio.system.paths import runs_dir
from studio.system.settings import AppSettings
from ui.inspector.editors.base import FieldContext
from ui.inspector.editors.paths import PathEditor
from ui.inspector.form import Form
from ui.inspector.row import Change
from ui.style.keys import command_word

Button = QDialogButtonBox.StandardButton
_WIDTH_IN_DIGITS = 62


class ProgramSettings(Settings):
    """The fields of the form: the part of ``AppSettings`` that users edit."""

    theme: Literal["system", "dark", "light"] = setting(
        "system",
        "Theme",
        "Color theme of the window. System follows the desktop setting if it is available.",
        choice_labels={"system": "System", "dark": "Dark", "light": "Light"},
    )
    scrolling: Literal["auto", "zoom", "pan"] = setting(
        "auto",
        "Canvas scrolling",
        "By default a mouse wheel zooms, and two fingers on a touchpad pan. Choose one of the others "
        f"if the device is not recognized. {command_word()} with the wheel always zooms, and Shift pans "
        "sideways.",
        choice_labels={"auto": "Depends on the device", "zoom": "Zooms", "pan": "Pans"},
    )
    runs_folder: str = setting(
        "",
        "Runs folder",
        "Folder for runs, checkpoints and adapters. Choose a disk with enough space: a run can "
        "need several gigabytes. Leave empty to use the default folder.",
        widget="folder",
    )
    run_in: Literal["host", "thread"] = setting(
        "host",
        "Run in",
        "A separate process keeps running when the window closes or crashes. Use this window for "
        "debugging only.",
        choice_labels={"host": "Separate process", "thread": "This window"},
    )
    leave_core: bool = setting(
        True,
        "Reserve one CPU core",
        "A run that is started in the window leaves one CPU core free on computers with more than 4 cores. With "
        "fewer, it uses all of them, as runs from the terminal do. Runs of the window have low priority, so that the "
        "computer stays responsive.",
    )
    keep_awake: bool = setting(
        True,
        "Prevent sleep",
        "Keeps the computer from going to sleep by itself while a run is going. The screen may still "
        "turn off, and closing the lid may still put a laptop to sleep.",
    )
    token_cache_gb: float = setting(
        5.0,
        "Token cache",
        "Maximum size of the cache of tokenized data. The least recently used entries are removed "
        "first. 0 disables the cache.",
        unit="GB",
        ge=0.0,
        le=1000.0,
        special={0.0: "off"},
    )


class SettingsDialog(QDialog):
    """OK emits the new settings as ``accepted_settings``; Cancel changes nothing."""

    accepted_settings = Signal(object)

    def __init__(self, settings: AppSettings, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Settings")
        self._before = settings
        names = [spec.name for spec in fields_of(ProgramSettings)]
        self._values: dict[str, Any] = {name: getattr(settings, name) for name in names}
        context = FieldContext(Registry(), lambda: _start(settings), relative_paths=False)
        self._form = Form(ProgramSettings, context, parent=self)
        self._form.changed.connect(self._changed)
        self._form.set_values(self._values)
        for row in self._form.rows():
            if row.path == "runs_folder" and isinstance(row.editor, PathEditor):
                row.editor.line.setPlaceholderText(str(runs_dir()))
        self._buttons = QDialogButtonBox(Button.Ok | Button.Cancel | Button.RestoreDefaults, self)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._restore().clicked.connect(self._restore_defaults)
        self._column = column = QVBoxLayout(self)
        column.setContentsMargins(18, 18, 18, 14)
        column.setSpacing(16)
        column.addWidget(self._form)
        column.addStretch(1)
        column.addWidget(self._buttons)
        self.setMinimumWidth(self.fontMetrics().horizontalAdvance("0") * _WIDTH_IN_DIGITS)

    def settings(self) -> AppSettings:
        """The settings as the form shows them; what it does not show is kept."""
        return self._before.model_copy(update=self._values)

    def event(self, event: QEvent) -> bool:
        """Qt: grow with the form, whose labels wrap and move above their fields after it has its width."""
        handled = super().event(event)
        if event.type() == QEvent.Type.LayoutRequest:
            needed = self._column.totalHeightForWidth(self.width())
            if self.height() < needed:
                self.resize(self.width(), needed)
        return handled

    def accept(self) -> None:
        """Emit the settings if they are valid."""
        if self._judge():
            self.accepted_settings.emit(self.settings())
            super().accept()

    def _changed(self, change: Change) -> None:
        self._values[change.path] = change.value
        self._judge()

    def _judge(self) -> bool:
        found = self._form.own_problems("Settings")
        self._form.set_problems(found)
        self._buttons.button(Button.Ok).setEnabled(not found)
        return not found

    def _restore(self) -> QPushButton:
        return self._buttons.button(Button.RestoreDefaults)

    def _restore_defaults(self) -> None:
        self._values = {spec.name: spec.default for spec in fields_of(ProgramSettings)}
        self._form.set_values(self._values)
        self._judge()


def _start(settings: AppSettings) -> Path:
    folder = settings.runs_dir()
    return folder if folder.exists() else runs_dir().parent
