"""The editor for a file or a folder: type it, browse for it, or drop it.

A path inside the project's folder is kept relative to it, so that the project can be moved. Nothing
is opened here: the node's check validates the file.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QMimeData
from PySide6.QtGui import QDragEnterEvent, QDropEvent
from PySide6.QtWidgets import QFileDialog, QWidget

from studio.graph.schema import FieldSpec
from ui.inspector.editors.base import FieldContext
from ui.inspector.editors.plain import LineEditor
from ui.style.widgets import IconButton

_DATA_FILTER = (
    "Data (*.jsonl *.json *.csv *.tsv *.parquet *.xlsx *.sqlite *.txt *.md *.gz *.bz2 *.xz *.zst *.zip)"
    ";;All files (*)"
)


class PathEditor(LineEditor):
    """A line with a Browse button; also a place to drop a file on."""

    wide = True

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        self._folder = spec.meta.widget != "file"
        what = "folder" if self._folder else "file"
        button = IconButton("folder-open", f"Select a {what}", self)
        button.setObjectName(f"browse:{path}")
        button.setAccessibleDescription(
            f"Opens a dialog to select the {what} for {spec.meta.label}."
        )
        button.clicked.connect(self.browse)
        self.row.addWidget(button)
        self.line.setAcceptDrops(False)
        self.setAcceptDrops(True)

    def browse(self) -> None:
        """Ask for a path, starting at the current one."""
        start = start_folder(self.line.text(), self.context.project_dir())
        title = f"Select: {self.spec.meta.label}"
        if self._folder:
            chosen = QFileDialog.getExistingDirectory(self, title, str(start))
        else:
            chosen, _ = QFileDialog.getOpenFileName(self, title, str(start), _DATA_FILTER)
        if chosen:
            self.take(Path(chosen))

    def take(self, chosen: Path) -> None:
        """Use a path that was chosen or dropped."""
        text = str(chosen)
        if self.context.relative_paths:
            text = relative_to_project(chosen, self.context.project_dir())
        self.set_value(text)
        self.edited.emit(text)
        self.left.emit()

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept one local file or folder, whichever this field is for."""
        if self.isEnabled() and dropped_path(event.mimeData(), self._folder) is not None:
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Take what was dropped."""
        path = dropped_path(event.mimeData(), self._folder)
        if path is not None:
            event.acceptProposedAction()
            self.take(path)


class AdapterEditor(PathEditor):
    """A folder, or a GGUF file with an adapter."""

    def __init__(
        self, spec: FieldSpec, path: str, context: FieldContext, parent: QWidget | None = None
    ) -> None:
        super().__init__(spec, path, context, parent)
        button = IconButton("file", "Select a GGUF file", self)
        button.setObjectName(f"browse-file:{path}")
        button.setAccessibleDescription("Opens a dialog to select a GGUF file with an adapter.")
        button.clicked.connect(self.browse_file)
        self.row.addWidget(button)

    def browse_file(self) -> None:
        """Ask for a GGUF file."""
        start = start_folder(self.line.text(), self.context.project_dir())
        title = f"Select: {self.spec.meta.label}"
        chosen, _ = QFileDialog.getOpenFileName(self, title, str(start), "GGUF (*.gguf)")
        if chosen:
            self.take(Path(chosen))

    def dropEvent(self, event: QDropEvent) -> None:
        """Take what was dropped: a GGUF file itself, the folder of any other file."""
        file = dropped_path(event.mimeData(), False)
        if file is not None and file.suffix.lower() == ".gguf":
            event.acceptProposedAction()
            self.take(file)
        else:
            super().dropEvent(event)


def dropped_path(data: QMimeData, folder: bool) -> Path | None:
    """The one local path in a drop; a file dropped on a folder field means its folder."""
    paths = [Path(url.toLocalFile()) for url in data.urls() if url.isLocalFile()]
    if len(paths) != 1:
        return None
    path = paths[0]
    if folder and path.is_file():
        return path.parent
    return path if folder or path.is_file() else None


def relative_to_project(path: Path, project_dir: Path) -> str:
    """The path as it is stored: relative with forward slashes where it lies in the project."""
    path = Path(path).absolute()
    for root in (project_dir.absolute(), project_dir.resolve()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return str(path)


def start_folder(text: str, project_dir: Path) -> Path:
    """The start folder of a file dialog: that of the current file, else the project's folder."""
    if text:
        present = project_dir / Path(text).expanduser()
        for candidate in (present, present.parent):
            if candidate.exists():
                return candidate
    return project_dir
