"""The artifacts of a run: kind, name, size and path, with “Show in Folder” and “Copy Path”.

Sizes are read once per artifact. It opens and copies; it never changes or deletes anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PySide6.QtCore import QPoint, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import (
    QApplication,
    QFileDialog,
    QHBoxLayout,
    QHeaderView,
    QMenu,
    QPushButton,
    QTreeWidget,
    QTreeWidgetItem,
    QVBoxLayout,
    QWidget,
)

from studio.export_folder.archive import archive_name
from studio.export_folder.commands import commands, complete_models
from studio.runs.outcome import artifact_words, sorted_artifacts
from ui.monitor import words
from ui.monitor.export_use import ExportUse
from ui.monitor.reveal import reveal
from ui.style import icons, theme
from ui.style.widgets import child_items, plain_tip, top_items

COLUMNS = ("Result", "Size", "Path")
KIND_ICONS = {
    "dataset": "database",
    "base_model": "box",
    "adapter": "layers",
    "merged_model": "git-merge",
    "tuned_model": "play",
    "report": "scale",
    "gguf": "package",
    "adapter_gguf": "package",
    "ollama_folder": "package",
}
USABLE = ("adapter", "merged_model", "tuned_model", "gguf", "adapter_gguf", "ollama_folder")
"""Kinds that other programs run, or that can be exported for them."""
PATH_ROLE = Qt.ItemDataRole.UserRole
KIND_ROLE = Qt.ItemDataRole.UserRole + 1
URL_ROLE = Qt.ItemDataRole.UserRole + 2


@dataclass(frozen=True)
class _Artifact:
    """What is shown of an artifact."""

    kind: str
    words: str
    path: str
    cached: bool
    url: str = ""  # on the Hub


def _read(artifact: Mapping[str, Any]) -> _Artifact:
    kind, path = str(artifact.get("kind") or "file"), str(artifact.get("path") or "")
    url = str(artifact.get("url") or "")
    url = url if url.startswith(("https://", "http://")) else ""
    return _Artifact(kind, artifact_words(artifact), path, bool(artifact.get("cached")), url)


class ArtifactList(QWidget):
    """A list of artifacts, and actions for the selected one. ``export_wanted`` carries the program (``ollama`` or
    ``lm_studio``) for which a model without a file for it should be exported."""

    export_wanted = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown: list[_Artifact] = []
        self.project = ""  # the name of the run, for files that are saved
        self._sizes: dict[str, int | None] = {}
        self._prepared: QTreeWidgetItem | None = None
        self._picked = False  # by the user; else the first row is the current one
        self.tree = self._tree()
        self.show_button = QPushButton("Show in Folder", self)
        icons.put(self.show_button, "folder-open")
        self.show_button.clicked.connect(self.show_in_folder)
        self.copy_button = QPushButton("Copy Path", self)
        icons.put(self.copy_button, "copy")
        self.copy_button.clicked.connect(self.copy_path)
        self.use_button = QPushButton("Use In", self)
        icons.put(self.use_button, "play")
        self.use_menu = QMenu(self.use_button)
        self.use_menu.aboutToShow.connect(self._fill_use_menu)
        self.use_button.setMenu(self.use_menu)
        self.use = ExportUse(self)
        self._buttons = buttons = QHBoxLayout()
        buttons.setContentsMargins(8, 4, 8, 6)
        buttons.setSpacing(8)
        buttons.addWidget(self.show_button)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.use_button)
        buttons.addStretch(1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.use)  # above the list, where a low panel shows it without scrolling
        layout.addWidget(self.tree, 1)
        layout.addLayout(buttons)
        theme.changed.connect(self._color)
        self._enable()

    def least_width(self) -> int:
        """The width (pixels) at which the words of all buttons can be read."""
        self.ensurePolished()
        return self._buttons.sizeHint().width()

    def _tree(self) -> QTreeWidget:
        tree = QTreeWidget(self)
        tree.setHeaderLabels(list(COLUMNS))
        tree.setUniformRowHeights(True)
        tree.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        tree.setAccessibleName("Results of the run")
        header = tree.header()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.Stretch)
        tree.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        tree.customContextMenuRequested.connect(self._menu)
        tree.itemDoubleClicked.connect(self.show_in_folder)
        tree.itemSelectionChanged.connect(self._enable)
        tree.itemSelectionChanged.connect(self._pick)
        return tree

    def show_artifacts(self, artifacts: Iterable[Mapping[str, Any]]) -> None:
        """Show these artifacts: what was made, the most useful first, and what was only prepared for it,
        folded."""
        made, prepared = sorted_artifacts([dict(a) for a in artifacts])
        groups = [[_read(a) for a in group] for group in (made, prepared)]
        wanted = [*groups[0], *groups[1]]
        if wanted == self._shown:
            return
        picked = self._picked
        chosen, open_before = (
            self.chosen(),
            self._prepared is not None and self._prepared.isExpanded(),
        )
        self.tree.clear()
        self.tree.addTopLevelItems([self._item(one) for one in groups[0]])
        self._prepared = self._fold(groups[1]) if groups[1] else None
        if self._prepared is not None:
            self._prepared.setExpanded(open_before or not groups[0])
        self._shown = wanted
        self._color()
        rows = self._rows()
        again = [row for row in rows if path_of(row) == chosen and picked]
        if rows:
            self.tree.setCurrentItem((again or rows)[0])
        self._picked = picked

    def _fold(self, prepared: list[_Artifact]) -> QTreeWidgetItem:
        """The row under which the prepared artifacts are folded."""
        fold = QTreeWidgetItem([f"Prepared data and models ({len(prepared)})"])
        fold.setFlags(Qt.ItemFlag.ItemIsEnabled)
        self.tree.addTopLevelItem(fold)
        fold.addChildren([self._item(one) for one in prepared])
        return fold

    def _rows(self) -> list[QTreeWidgetItem]:
        """The rows of artifacts, without the one that folds some of them."""
        tops = top_items(self.tree)
        inner = child_items(self._prepared) if self._prepared is not None else []
        return [*(row for row in tops if row is not self._prepared), *inner]

    def _item(self, artifact: _Artifact) -> QTreeWidgetItem:
        path, cached = artifact.path, artifact.cached
        mark = " (reused)" if cached else ""
        if path not in self._sizes:
            self._sizes[path] = size_of(Path(path))
        found = self._sizes[path]
        shown_size = words.size(found) if found is not None else "missing"
        shown_path = f"{artifact.url} ({path})" if artifact.url else path
        item = QTreeWidgetItem([artifact.words + mark, shown_size, shown_path])
        item.setData(0, PATH_ROLE, path)
        item.setData(0, URL_ROLE, artifact.url)
        item.setData(0, KIND_ROLE, artifact.kind)
        item.setToolTip(2, plain_tip(shown_path))
        if cached:
            item.setToolTip(
                0, ("The inputs and settings have not changed, so the earlier result is reused.")
            )
        item.setTextAlignment(1, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
        return item

    def _color(self) -> None:
        look = theme.colors()
        for item in self._rows():
            kind = str(item.data(0, KIND_ROLE))
            item.setIcon(0, icons.icon(icons.known(KIND_ICONS.get(kind, "file")), look.accent))
            item.setForeground(2, look.text_muted)
            item.setForeground(1, look.text_muted)

    def chosen(self) -> Path | None:
        """The path of the chosen artifact."""
        item = self.tree.currentItem()
        return path_of(item) if item is not None and item is not self._prepared else None

    def paths(self) -> list[str]:
        """Every path that is shown."""
        return [artifact.path for artifact in self._shown]

    def show_in_folder(self) -> None:
        """Open the file manager where the chosen artifact is."""
        item = self.tree.currentItem()
        if item is not None and item is not self._prepared and not reveal(path_of(item)):
            item.setText(1, "missing")

    def copy_path(self) -> None:
        """Put the chosen artifact's path on the clipboard."""
        path = self.chosen()
        if path is not None:
            QApplication.clipboard().setText(str(path))

    def _pick(self) -> None:
        self._picked = True

    def _enable(self) -> None:
        for button in (self.show_button, self.copy_button):
            button.setEnabled(self.chosen() is not None)
        self.use_button.setEnabled(self._kind() in USABLE)

    def _kind(self) -> str:
        """The kind of the chosen artifact."""
        item = self.tree.currentItem()
        if item is None or item is self._prepared:
            return ""
        return str(item.data(0, KIND_ROLE))

    def _url(self) -> str:
        """The page of the chosen artifact on the Hub; empty if it was not uploaded."""
        item = self.tree.currentItem()
        return str(item.data(0, URL_ROLE) or "") if item is not None else ""

    def _fill_use_menu(self) -> None:
        """The programs that can use the chosen artifact, and the commands for them."""
        self.use_menu.clear()
        kind, path = self._kind(), self.chosen()
        if path is None:
            return
        self.use_menu.addAction("Ollama", lambda: self.use_in("ollama", kind, path))
        self.use_menu.addAction("LM Studio", lambda: self.use_in("lm_studio", kind, path))
        url = self._url()
        if url:
            self.use_menu.addSection("Hugging Face Hub")
            self.use_menu.addAction("Open in the Browser", partial(open_page, url))
            self.use_menu.addAction("Copy Link", partial(self._copy, url))
        self.use_menu.addSeparator()
        self.use_menu.addAction("Save as ZIP…", partial(self._save_archive, path))
        copied = commands(kind, path)
        if copied:
            self.use_menu.addSection("Copy Command")
        for command in copied:
            line = command.line()
            action = self.use_menu.addAction(command.program, partial(self._copy, line))
            action.setToolTip(plain_tip(line))
        self.use_menu.setToolTipsVisible(True)

    def use_in(self, program: str, kind: str, folder: Path) -> None:
        """Add an export to a program, or ask for the export that it needs."""
        if program == "ollama" and kind == "ollama_folder":
            self.use.add_to_ollama(folder)
        elif (
            program == "lm_studio" and kind in ("gguf", "ollama_folder") and complete_models(folder)
        ):
            self.use.add_to_lm_studio(folder)
        else:
            self.export_wanted.emit(program)

    def _save_archive(self, folder: Path) -> None:
        """Ask for a file, and write the chosen artifact to it as an archive."""
        item = self.tree.currentItem()
        name = archive_name(self.project or (item.text(0) if item is not None else ""))
        start = str(Path.home() / f"{name}.zip")
        chosen, _ = QFileDialog.getSaveFileName(self, "Save as ZIP", start, "ZIP archives (*.zip)")
        if chosen:
            target = Path(chosen)
            self.use.save_archive(folder, target if target.suffix else target.with_suffix(".zip"))

    def _copy(self, text: str) -> None:
        QApplication.clipboard().setText(text)

    def _menu(self, position: QPoint) -> None:
        if self.tree.itemAt(position) is None:
            return
        menu = QMenu(self)
        icons.put(menu.addAction("Show in Folder", self.show_in_folder), "folder-open")
        icons.put(menu.addAction("Copy Path", self.copy_path), "copy")
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.tree.viewport().mapToGlobal(position))


def open_page(url: str) -> None:
    """Open a page in the browser."""
    QDesktopServices.openUrl(QUrl(url))


def path_of(item: QTreeWidgetItem) -> Path:
    """The path of the artifact that an item stands for."""
    return Path(str(item.data(0, PATH_ROLE)))


def size_of(path: Path) -> int | None:
    """Bytes of a file, or of all files in a folder; ``None`` if it is missing."""
    try:
        if path.is_file():
            return path.stat().st_size
        if not path.is_dir():
            return None
        return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    except OSError:
        return None
