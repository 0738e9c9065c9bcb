"""Adds exported models to Ollama and LM Studio, and writes archives of them, with progress and Stop.

It is above the list of results.

The work runs on a pool thread; its messages arrive as signals on the main thread. It changes nothing in the export.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtWidgets import QApplication, QHBoxLayout, QPushButton, QWidget

from studio.errors import StudioError
from studio.export_folder import archive, lm_studio, ollama_program
from studio.export_folder.commands import commands, gguf_files
from studio.system.disk import size_text
from ui.style import icons
from ui.style.widgets import TextLabel
from workers.task import Task, run_task

LM_STUDIO = f"{lm_studio.MISSING[0]} Get it at https://lmstudio.ai, and start it once."


class _Said(QObject):
    """Messages of the working thread."""

    line = Signal(object)


class ExportUse(QWidget):
    """A line with what is being done, and Stop. Hidden until something is done."""

    done = Signal(str)  # the sentence at the end

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.text = TextLabel("", self)
        self.stop_button = QPushButton("Stop", self)
        icons.put(self.stop_button, "circle-stop")
        self.stop_button.clicked.connect(self.stop)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 2, 8, 6)
        row.addWidget(self.text, 1)
        row.addWidget(self.stop_button)
        self._task: Task | None = None
        self._stopped = False
        self._said = _Said(self)
        self._said.line.connect(self._show_line)
        self._title = ""
        self.hide()

    @property
    def busy(self) -> bool:
        """Whether something is being done."""
        return self._task is not None

    def add_to_ollama(self, folder: Path) -> None:
        """Run ``ollama create`` for an Ollama folder; without Ollama, its command is copied."""
        if self.busy:
            return
        if not ollama_program.is_installed():
            line = commands("ollama_folder", folder)[0].line()
            QApplication.clipboard().setText(line)
            self._end(f"{ollama_program.WHERE} The command was copied: {line}")
            return

        def work() -> str:
            name = ollama_program.create_model(folder, self._said.line.emit, lambda: self._stopped)
            return f"{name} was added to Ollama. Run it with: ollama run {name}"

        self._begin("Ollama", work)

    def add_to_lm_studio(self, folder: Path) -> None:
        """Add the GGUF files of an export to the models of LM Studio."""
        if self.busy:
            return
        models, files = lm_studio.models_folder(), gguf_files(folder)
        if models is None:
            self._end(f"{LM_STUDIO} The file of the model is {', '.join(map(str, files))}.")
            return

        progress = self._bytes_or("The copy for LM Studio was stopped.")

        def work() -> str:
            added = [lm_studio.add_model(file, models, progress) for file in files]
            return f"Added to LM Studio: {', '.join(map(str, added))}"

        self._begin("LM Studio", work)

    def _bytes_or(self, stopped: str) -> Callable[[int, int], None]:
        """Reports the bytes that are written, and raises ``StudioError`` with ``stopped`` after Stop."""

        def progress(done: int, total: int) -> None:
            if self._stopped:
                raise StudioError(stopped)
            self._said.line.emit(f"{size_text(done)} of {size_text(total)}")

        return progress

    def save_archive(self, folder: Path, target: Path) -> None:
        """Write an export to a ZIP archive."""
        if self.busy:
            return

        progress = self._bytes_or("The archive was stopped, and not written.")

        def work() -> str:
            named = archive.files_with_paths(folder)
            archive.write_archive(folder, target, progress)
            warning = f" {', '.join(named)} contains a path of this computer." if named else ""
            return f"Written: {target}.{warning}"

        self._begin("ZIP", work)

    @Slot()
    def stop(self) -> None:
        """End what is being done."""
        self._stopped = True
        self.stop_button.setEnabled(False)

    def _begin(self, title: str, work: Callable[[], str]) -> None:
        self._title, self._stopped = title, False
        self.stop_button.setEnabled(True)
        self.stop_button.show()
        self._show_line("starting")
        self._task = run_task(work, self._end, self._failed)

    @Slot(object)
    def _show_line(self, line: object) -> None:
        self.text.setText(f"{self._title}: {line}")
        self.show()

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, (StudioError, OSError)):
            self._task = None
            raise error
        hint = getattr(error, "hint", "")
        sentence = error.sentence if isinstance(error, StudioError) else str(error)
        self._end(f"{sentence[:1].upper()}{sentence[1:]} {hint}".strip())

    def _end(self, sentence: object) -> None:
        self._task = None
        self.stop_button.hide()
        self.text.setText(str(sentence))
        self.show()
        self.done.emit(str(sentence))
