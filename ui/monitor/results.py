"""The results of a run: artifacts on disk, and measures before and after tuning.

It reads a ``RunState``; ``refresh`` shows new data. It never runs or deletes anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QHBoxLayout,
    QLabel,
    QSplitter,
    QStackedWidget,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from studio.export_folder import llama_cpp
from studio.export_folder.mixture import mixture_in, tables
from studio.runs.outcome import outcome_of
from studio.runs.state import RunState
from studio.system.optional_packages import LLAMA_CPP
from ui.monitor.artifact_list import ArtifactList
from ui.monitor.check_table import CheckTable
from ui.monitor.evaluation import ExampleTable, MeasureBars
from ui.monitor.mixture import MixtureTables
from ui.style.install_button import InstallButton
from ui.style.widgets import MutedLabel, TextLabel, scrolling

NARROW_PX, LEAST_PX = 720, 340

_THEN = "It reads GGUF files back, to prove them."
_AGAIN = "Press Run to check the export: steps that have not changed are reused, and nothing is trained again."
EMPTY_TEXT = "No results yet. Adapters, models and reports appear here when a step has finished."


class _MissingReader(QWidget):
    """Below checks that could not be made without llama.cpp: a button that installs it, then what to do."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = MutedLabel("", self)
        self.button = InstallButton(LLAMA_CPP, self)
        row = QHBoxLayout(self)
        row.setContentsMargins(8, 4, 8, 4)
        row.setSpacing(8)
        row.addWidget(self.button)
        row.addWidget(self.words, 1)
        self.hide()

    def show_checks(self, checks: Sequence[Mapping[str, Any]]) -> None:
        """Show what these checks lacked."""
        lacked = any(map(llama_cpp.lacked, checks))
        missing = lacked and not llama_cpp.is_installed()
        self.words.setText(
            f"{_THEN} {_AGAIN}" if missing else f"llama.cpp is installed now. {_AGAIN}"
        )
        self.button.setVisible(missing)
        self.setVisible(lacked)


class ResultsPanel(QWidget):
    """Results of one run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._state: RunState | None = None
        self.artifacts = ArtifactList(self)
        self.evaluations = QTabBar(self)
        self.evaluations.setAccessibleName("Evaluations of this run")
        self.evaluations.setExpanding(False)
        self.evaluations.setDrawBase(False)
        self.evaluations.setElideMode(Qt.TextElideMode.ElideRight)
        self.evaluations.currentChanged.connect(self._show_evaluation)
        self.bars = MeasureBars(self)
        self.examples = ExampleTable(self)
        self.mixtures = MixtureTables(self)
        self._comparison = QWidget(self)
        inside = QVBoxLayout(self._comparison)
        inside.setContentsMargins(0, 0, 0, 0)
        inside.setSpacing(0)
        inside.addWidget(self.evaluations)
        inside.addWidget(self.bars)
        inside.addWidget(self.examples, 1)
        inside.addWidget(self.mixtures)
        self.outcome = TextLabel("", self)
        self.outcome.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.checks = CheckTable(self)
        self.reader = _MissingReader(self)
        self._split = QSplitter(self)
        self._split.setChildrenCollapsible(False)
        self.artifacts.setMinimumWidth(LEAST_PX)
        self.examples.setMinimumHeight(LEAST_PX // 3)
        self._split.addWidget(self.artifacts)
        self._split.addWidget(self._comparison)
        self._split.setSizes([440, 560])
        empty = QLabel(EMPTY_TEXT, self)
        empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        empty.setForegroundRole(empty.palette().ColorRole.PlaceholderText)
        empty.setWordWrap(True)
        self._stack = QStackedWidget(self)
        self._stack.addWidget(empty)
        filled = QWidget(self)
        column = QVBoxLayout(filled)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        around = QVBoxLayout()
        around.setContentsMargins(8, 6, 8, 4)
        around.addWidget(self.outcome)
        column.addLayout(around)
        column.addWidget(self.checks)
        column.addWidget(self.reader)
        column.addWidget(self._split, 1)
        self._stack.addWidget(scrolling(filled, self))
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._stack)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Qt: artifacts and comparison lie beside each other, or above each other in a narrow panel."""
        super().resizeEvent(event)
        narrow = self.width() < NARROW_PX
        way = Qt.Orientation.Vertical if narrow else Qt.Orientation.Horizontal
        if self._split.orientation() != way:
            self._split.setOrientation(way)

    def show_state(self, state: RunState | None) -> None:
        """Show this run; ``None`` shows the empty text."""
        self._state = state
        self.refresh()

    def refresh(self) -> None:
        """Show new data of the run."""
        artifacts = self._state.artifacts if self._state else []
        evaluations = self._state.evaluations if self._state else {}
        ended = self._state is not None and self._state.finished is not None
        found = outcome_of(self._state) if self._state is not None and ended else None
        self.outcome.setText(found.sentence() if found else "")
        self.outcome.setVisible(found is not None)
        self.artifacts.project = self._state.name if self._state else ""
        checks = self._state.checks if self._state else []
        titles = (
            {str(c["node"]): self._state.title_of(str(c["node"])) for c in checks}
            if self._state
            else {}
        )
        self.checks.show_checks(checks, titles)
        self.reader.show_checks(checks)
        self.artifacts.show_artifacts(artifacts)
        self._list_evaluations(list(evaluations))
        mixed = [
            (self._state.title_of(str(artifact.get("node"))), table)
            for artifact in artifacts
            if self._state is not None and (found_mix := mixture_in(artifact)) is not None
            for table in tables(found_mix)
        ]
        self.mixtures.show_tables(mixed)
        self.mixtures.setVisible(bool(mixed))
        self.bars.setVisible(bool(evaluations))
        self.examples.setVisible(bool(evaluations))
        self._comparison.setVisible(bool(evaluations or mixed))
        self._show_evaluation()
        self._stack.setCurrentIndex(1 if artifacts or evaluations or checks or ended else 0)

    def _list_evaluations(self, nodes: list[str]) -> None:
        """A tab for each Evaluate node of the run, if there are several; a new one is selected."""
        tabs = self.evaluations
        tabs.blockSignals(True)
        shown = {tabs.tabData(i): i for i in range(tabs.count())}
        for node in [n for n in shown if n not in nodes]:
            tabs.removeTab(next(i for i in range(tabs.count()) if tabs.tabData(i) == node))
        for node in nodes:
            if node not in shown:
                index = tabs.addTab("")
                tabs.setTabData(index, node)
                tabs.setCurrentIndex(index)
        for index in range(tabs.count()):
            title = self._state.title_of(tabs.tabData(index)) if self._state else ""
            tabs.setTabText(index, title.replace("&", "&&"))
        tabs.setVisible(len(nodes) > 1)
        tabs.blockSignals(False)

    def _show_evaluation(self) -> None:
        node = self.evaluations.tabData(self.evaluations.currentIndex())
        found = (self._state.evaluations if self._state else {}).get(node) or {}
        self.bars.show_measures(found.get("measures") or {})
        self.examples.show_examples(found.get("examples") or [])
