"""New, open, save, recent, autosave, recovery: what happens to the project's file.

It manages the Document's file and asks the user if necessary. It uses no widgets other than
questions and file dialogs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, cast

from PySide6.QtCore import QObject, QTimer, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from studio.errors import StudioError
from studio.graph.document import Document
from studio.graph.edits import rename
from studio.graph.graph import Graph
from studio.graph.own_data import with_own_data
from studio.graph.project import (
    SUFFIX,
    is_project,
    load_project,
    read_journal,
    remove_journal,
    save_project,
    write_journal,
)
from studio.graph.registry import Registry
from studio.graph.relocate import relocated
from studio.graph.templates import Template, from_template
from studio.system.paths import assets_dir, current_dir, data_dir, file_name
from ui.style.choice_dialog import Choice, ChoiceDialog, tell
from ui.window.preferences import Preferences
from ui.window.window_store import WindowStore

Answer = Literal["save", "discard", "cancel"]
AUTOSAVE_MS = 2000
FILTER = f"LoRA Studio projects (*{SUFFIX})"


class UnsavedChangesDialog(ChoiceDialog):
    """Save, Don't save, or Cancel; Escape cancels."""

    def __init__(self, project: str, parent: QWidget | None = None) -> None:
        choices = (
            Choice("save", "Save", default=True),
            Choice("discard", "Don't Save"),
            Choice("cancel", "Cancel"),
        )
        sentence = f"Save the changes to “{project}”?"
        detail = "If you don't save, your changes are lost."
        super().__init__("Unsaved changes", sentence, detail, choices, "save", parent)


def ask_unsaved(project: str, parent: QWidget | None = None) -> Answer:
    """What to do with unsaved changes of this project."""
    return cast(Answer, UnsavedChangesDialog(project, parent).ask())


class ProjectController(QObject):
    """Files of one Document. ``opened``: another project is shown. ``saved``: it has been written,
    maybe to another place.

    ``recovery_found`` carries a graph with unsaved changes that a crash left behind.
    """

    opened = Signal()
    saved = Signal()
    message = Signal(object)
    recovery_found = Signal(object)

    def __init__(
        self,
        document: Document,
        registry: Registry,
        preferences: Preferences,
        store: WindowStore,
        parent: QWidget,
    ) -> None:
        super().__init__(parent)
        self._document, self._registry = document, registry
        self._preferences, self._store = preferences, store
        self._window = parent
        self._autosave = QTimer(self, singleShot=True, interval=AUTOSAVE_MS)
        self._autosave.timeout.connect(self.write_journal)
        self._stop_listening = document.listen(self._changed)

    def close(self) -> None:
        """Stop following the document."""
        self._stop_listening()
        self._autosave.stop()

    # ------------------------------------------------------------ state

    @property
    def read_only(self) -> bool:
        """Whether the project ships with the program: saving then asks for a path."""
        path = self._document.path
        return path is not None and path.resolve().is_relative_to(assets_dir())

    def title(self) -> str:
        """The project's name for the title bar."""
        path = self._document.path
        name = self._document.graph.name
        return (
            name if path is None or self.read_only or name == path.stem else f"{name} ({path.name})"
        )

    def _journal_base(self) -> Path:
        """The path next to which unsaved changes are kept."""
        if self._document.path is not None and not self.read_only:
            return self._document.path
        return data_dir() / "unsaved" / f"project{SUFFIX}"

    # ------------------------------------------------------------ open

    def new(self) -> bool:
        """An empty project, after asking about unsaved changes."""
        if not self.may_leave():
            return False
        self._document.replace(Graph(), None)
        self.opened.emit()
        return True

    def new_from_template(self, template: Template) -> bool:
        """A project without a file, made from a template, after asking about unsaved changes."""
        if not self.may_leave():
            return False
        try:
            graph = from_template(template, self._registry, current_dir())
        except StudioError as error:
            self._tell(error)
            return False
        self._document.replace(graph, None)
        self.opened.emit()
        self.message.emit(
            f"New project “{graph.name}”. Its sample data is copied beside it when you save it."
        )
        return True

    def ask_and_open(self) -> bool:
        """Ask which project to open."""
        start = str(self._last_folder())
        chosen, _ = QFileDialog.getOpenFileName(self._window, "Open a project", start, FILTER)
        return bool(chosen) and self.open(Path(chosen))

    def open(self, path: Path) -> bool:
        """Open a project after asking about unsaved changes; shows an error if that fails."""
        if not self.may_leave():
            return False
        try:
            graph = load_project(path)
        except StudioError as error:
            self._tell(error)
            return False
        self.show(graph, path.resolve())
        return True

    def show(self, graph: Graph, path: Path | None) -> None:
        """Make a graph that was read from ``path`` the document."""
        self._document.replace(graph, path)
        if path is not None:
            self._remember(path)
        self.opened.emit()
        self._look_for_journal()

    def _remember(self, path: Path) -> None:
        if self.read_only:
            self._store.set_last_project(None)
            return
        self._store.set_last_project(path)
        self._preferences.replace(self._preferences.values.with_recent(path))

    def _last_folder(self) -> Path:
        recent = self._preferences.recent()
        return recent[0].parent if recent else Path.home()

    def open_starter(self) -> bool:
        """Open the starter project that ships with the program."""
        return self.open(starter_path())

    def _look_for_journal(self) -> None:
        found = read_journal(self._journal_base())
        if found is not None and found != self._document.graph:
            self.recovery_found.emit(found)

    def recover(self, graph: Graph) -> None:
        """Apply unsaved changes of an earlier session as an edit, which Undo reverts."""
        self._document.edit(graph, "recovered changes")

    def discard_recovery(self) -> None:
        """Discard unsaved changes of an earlier session."""
        remove_journal(self._journal_base())

    # ------------------------------------------------------------ save

    def save(self) -> bool:
        """Save the project; asks for a path if it has none. False if it was not saved."""
        if self._document.path is None or self.read_only:
            return self.save_as()
        return self._save_to(self._document.path)

    def save_as(self) -> bool:
        """Ask for a path and save there."""
        name = file_name(self._document.graph.name) + SUFFIX
        start = self._document.path
        if start is None or self.read_only:
            start = self._last_folder() / name
        chosen, _ = QFileDialog.getSaveFileName(
            self._window, "Save the project", str(start), FILTER
        )
        if not chosen:
            return False
        path = Path(chosen)
        return self._save_to(path if is_project(path) else path.with_name(path.name + SUFFIX))

    def _save_to(self, path: Path) -> bool:
        path = path.resolve()
        old_base = self._journal_base()
        graph = self._document.graph
        if self._document.path is None and graph.name == Graph().name:
            graph = rename(graph, path.stem)  # the file's name is more useful than “Untitled”
        graph = relocated(graph, self._registry, self._document.project_dir, path.parent)
        try:
            graph, copied = with_own_data(graph, self._registry, path)
            save_project(path, graph)
        except StudioError as error:
            self._tell(error)
            return False
        self._document.edit(graph, "paths of the saved project")
        self._document.mark_saved(path)
        remove_journal(old_base)
        self._autosave.stop()
        self._remember(path)
        self.saved.emit()
        note = f" Its sample data was copied to the folder {copied.name}." if copied else ""
        self.message.emit(f"Saved {path.name}.{note}")
        return True

    def may_leave(self) -> bool:
        """Ask what to do with unsaved changes; False means: stay."""
        if not self._document.dirty:
            return True
        answer = ask_unsaved(self._document.graph.name, self._window)
        if answer == "save":
            return self.save()
        if answer == "discard":
            self.discard_recovery()
            self._autosave.stop()
            return True
        return False

    # ------------------------------------------------------------ autosave

    def _changed(self) -> None:
        if self._document.dirty:
            self._autosave.start()
        else:
            self._autosave.stop()

    def write_journal(self) -> None:
        """Keep unsaved changes next to the project; a full disk is reported, not raised."""
        if not self._document.dirty:
            return
        base = self._journal_base()
        try:
            base.parent.mkdir(parents=True, exist_ok=True)
            write_journal(base, self._document.graph)
            if base != self._document.path:
                self._store.set_last_project(None)  # the next start looks next to the starter
        except OSError as error:
            self.message.emit(f"Unsaved changes could not be backed up: {error.strerror or error}.")

    def _tell(self, error: StudioError) -> None:
        tell(error.title, error.sentence, error.hint, self._window)


def starter_path() -> Path:
    """The project that is shown on the first start and run by ``demo``."""
    return assets_dir() / f"starter{SUFFIX}"
