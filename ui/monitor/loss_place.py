"""The plot of the loss, or a sentence if there is none.

A run whose Train step was reused has no loss: its adapter comes from an earlier run, which the
button shows. It reads a ``RunState`` and opens no run itself.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QLabel, QPushButton, QStackedWidget, QVBoxLayout, QWidget

from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from studio.runs.summary import summarize
from ui.monitor import words
from ui.monitor.plot import LivePlot

NOT_TRAINED = "This run did not train, so it has no loss."


class LossPlace(QStackedWidget):
    """The plot, or a sentence. ``run_wanted`` carries the ``RunFolder`` whose curves are
    requested."""

    run_wanted = Signal(object)

    def __init__(self, plot: LivePlot, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._source: RunFolder | None = None
        self._seen: object = None
        self.text = QLabel(self, textFormat=Qt.TextFormat.PlainText)
        self.text.setWordWrap(True)
        self.text.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.text.setForegroundRole(self.text.palette().ColorRole.PlaceholderText)
        self.button = QPushButton("Show Its Curves", self)
        self.button.clicked.connect(lambda: self.run_wanted.emit(self._source))
        note = QWidget(self)
        column = QVBoxLayout(note)
        column.setContentsMargins(16, 16, 16, 16)
        column.addStretch(1)
        column.addWidget(self.text)
        column.addWidget(self.button, 0, Qt.AlignmentFlag.AlignHCenter)
        column.addStretch(1)
        self.addWidget(plot)
        self.addWidget(note)

    def look(self, state: RunState, trained: bool) -> None:
        """Update the view; cheap if nothing has changed."""
        seen = (id(state), trained, state.status, len(state.artifacts))
        if seen == self._seen:
            return
        self._seen = seen
        kept = None if trained else kept_training(state)
        self._source = kept[1] if kept else None
        self.button.setVisible(kept is not None)
        if kept is not None:
            when = words.day_and_time(summarize(kept[1]).started).lower()
            self.text.setText(f"{kept[0]} was unchanged. Its result comes from the run of {when}.")
        else:
            self.text.setText(NOT_TRAINED)
        ended = state.status not in ("preparing", "running")
        self.setCurrentIndex(0 if trained or not (kept or ended) else 1)


def kept_training(state: RunState) -> tuple[str, RunFolder] | None:
    """The title of the step whose adapter was reused, and the run that trained it."""
    for artifact in state.artifacts:
        if not artifact.get("cached") or artifact.get("kind") != "adapter":
            continue
        for folder in Path(str(artifact.get("path"))).parents:
            found = RunFolder(folder)
            if found.events_path.is_file():
                return state.node(artifact["node"]).title, found
    return None
