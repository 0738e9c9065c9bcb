"""The results of a run: artifacts on disk, and measures before and after tuning.

It reads a ``RunState``; ``refresh`` shows new data. It never runs or deletes anything.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QSplitter, QStackedWidget, QVBoxLayout, QWidget

from studio.runs.state import RunState
from ui.monitor.artifact_list import ArtifactList
from ui.monitor.evaluation import ExampleTable, MeasureBars

EMPTY_TEXT = "No results yet. Adapters, models and reports appear here when a step has finished."


class ResultsPanel(QWidget):
    """Results of one run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state: RunState | None = None
        self.artifacts = ArtifactList(self)
        self.bars = MeasureBars(self)
        self.examples = ExampleTable(self)
        self._comparison = QWidget(self)
        inside = QVBoxLayout(self._comparison)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(0)
        inside.addWidget(self.bars)
        inside.addWidget(self.examples, 1)
        self._split = QSplitter(self)
        self._split.setChildrenCollapsible(False)
        self._split.addWidget(self.artifacts)
        self._split.addWidget(self._comparison)
        self._split.setSizes([440, 560])
        empty = QLabel(EMPTY_TEXT, self)
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setForegroundRole(empty.palette().ColorRole.PlaceholderText)
        empty.setWordWrap(True)
        self._stack = QStackedWidget(self)
        self._stack.addWidget(empty)
        self._stack.addWidget(self._split)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)

    def show_state(self, state: RunState | None) -> None:
        """Show this run; ``None`` shows the empty text."""
        self._state = state
        self.refresh()

    def refresh(self) -> None:
        """Show new data of the run."""
        artifacts = self._state.artifacts if self._state else []
        evaluation = (self._state.evaluation if self._state else None) or {}
        self.artifacts.show_artifacts(artifacts)
        measures = evaluation.get("measures") or {}
        self._comparison.setVisible(bool(measures))
        self.bars.show_measures(measures)
        self.examples.show_examples(evaluation.get("examples") or [])
        self._stack.setCurrentIndex(1 if artifacts or measures else 0)
