"""The editor for a base model: a starter, something used before, a folder, a .gguf, or a hub id.

It only stores a name; the node's check reports whether the model exists.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import QSettings, Qt
from PySide6.QtGui import QAction, QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QComboBox, QFileDialog, QLineEdit, QMenu, QToolButton, QWidget

from studio.graph.schema import FieldSpec
from studio.model.models import STARTER_PREFIX, STARTERS
from studio.system.paths import config_dir
from ui.inspector.editors.base import Editor, FieldContext
from ui.inspector.editors.choices import narrow, widen_popup
from ui.inspector.editors.paths import dropped_path, relative_to_project, start_folder
from ui.style.widgets import IconButton, plain_tip

_RECENT_LIMIT = 6


class ModelEditor(Editor):
    """An editable list with a menu to browse for a folder or a .gguf file."""

    wide = True

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._combo = QComboBox(self)
        self._combo.setEditable(True)
        self._line = QLineEdit(self._combo)
        self._combo.setLineEdit(self._line)
        self._combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self._combo.setCompleter(None)  # type: ignore[arg-type]
        narrow(self._combo)
        self._line.setPlaceholderText(spec.meta.placeholder or "starter, folder or Hub ID")
        self._line.textEdited.connect(self.edited.emit)
        self._combo.textActivated.connect(self._chosen)
        self.adopt(self._combo)
        if context.choose_model is not None:
            self.row.addWidget(self._choose_button(context.choose_model))
        self.row.addWidget(self._browse_button())
        self._fill()
        self.setAcceptDrops(True)
        self._combo.setAcceptDrops(False)
        self._line.setAcceptDrops(False)

    def set_value(self, value: Any) -> None:
        """Show a model; the cursor stays in place while the text is unchanged."""
        text = str(value or "")
        if text == self._line.text():
            return
        position = self._line.cursorPosition()
        self._line.setText(text)
        self._line.setCursorPosition(position if self._combo.hasFocus() else 0)
        self._combo.setToolTip(plain_tip(text))

    def take(self, chosen: Path) -> None:
        """Use a folder or file that was chosen or dropped, and remember it."""
        text = relative_to_project(chosen, self.context.project_dir())
        remember(str(chosen))
        self._fill()
        self._chosen(text)

    def browse_folder(self) -> None:
        """Ask for a folder with a model in it."""
        chosen = QFileDialog.getExistingDirectory(self, "Select a model folder", self._start())
        if chosen:
            self.take(Path(chosen))

    def browse_gguf(self) -> None:
        """Ask for a .gguf file."""
        kinds = "GGUF models (*.gguf);;All files (*)"
        chosen, _ = QFileDialog.getOpenFileName(self, "Select a GGUF file", self._start(), kinds)
        if chosen:
            self.take(Path(chosen))

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept one local file or folder."""
        if self.isEnabled() and _dropped_model(event) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take a folder, or a file: a .gguf as it is, any other for its folder."""
        path = _dropped_model(event)
        if path is not None:
            event.acceptProposedAction()
            self.take(path)

    def _choose_button(self, choose: Callable[[], None]) -> QToolButton:
        button = IconButton("search", "Choose a base model", self)
        button.setObjectName(f"choose:{self.path}")
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        button.clicked.connect(choose)
        return button

    def _browse_button(self) -> QToolButton:
        button = IconButton("folder-open", "Select a model on this computer", self)
        button.setObjectName(f"browse:{self.path}")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        for words, slot in (
            ("Model folder…", self.browse_folder),
            ("GGUF file…", self.browse_gguf),
        ):
            action = QAction(words, menu)
            action.triggered.connect(slot)
            menu.addAction(action)
        button.setMenu(menu)
        return button

    def _fill(self) -> None:
        shown = self._line.text()
        self._combo.clear()
        for name in (*starters(), *recent()):
            self._combo.addItem(name)
        widen_popup(self._combo)
        self._combo.setCurrentIndex(-1)
        self._line.setText(shown)

    def _chosen(self, text: str) -> None:
        self.set_value(text)
        self.edited.emit(text)
        self.left.emit()

    def _start(self) -> str:
        return str(start_folder(self._combo.currentText(), self.context.project_dir()))


def _dropped_model(event: QDropEvent) -> Path | None:
    path = dropped_path(event.mimeData(), folder=False)
    if path is not None and path.suffix.lower() == ".gguf":
        return path
    return dropped_path(event.mimeData(), folder=True)


def starters() -> tuple[str, ...]:
    """The starter models that the studio can fetch by itself."""
    return tuple(STARTER_PREFIX + name for name in STARTERS)


def recent() -> list[str]:
    """Local models used lately, newest first, that are still there."""
    found = _store().value("recent_models") or []
    names = [found] if isinstance(found, str) else list(found)
    return [name for name in names if Path(name).exists()]


def remember(name: str) -> None:
    """Put a local model at the top of the recent ones."""
    _store().setValue("recent_models", [name, *(n for n in recent() if n != name)][:_RECENT_LIMIT])


def _store() -> QSettings:
    return QSettings(str(config_dir() / "inspector.ini"), QSettings.Format.IniFormat)
