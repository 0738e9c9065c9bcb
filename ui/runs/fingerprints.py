"""The fingerprints of the current graph, computed in the background after each edit.

They tell which nodes have changed since a run. Files that the nodes read are hashed for them, so the window must
not wait for it; while it is computed, the earlier fingerprints stay valid for the nodes that they name.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import QObject, Signal

from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.runs.plan import current_fingerprints
from workers.task import Task, run_task


class CurrentFingerprints(QObject):
    """``found`` holds those of the graph that was looked at last; ``changed`` says that they are others. Nothing is
    computed before the first ``look``."""

    changed = Signal()

    def __init__(self, document: Document, registry: Registry, parent: QObject) -> None:
        super().__init__(parent)
        self._document, self._registry = document, registry
        self.found: dict[str, str | None] | None = None
        self._task: Task | None = None
        self._seen: object = None
        self._wanted = False
        self._stop_listening = document.listen(self._edited)

    def look(self) -> None:
        """Compute them now, if that was not done for this graph, and again after every edit."""
        self._wanted = True
        self._edited()

    def rest(self) -> None:
        """Compute nothing until the next ``look``: no run is shown that they could be compared with."""
        self._wanted = False

    def close(self) -> None:
        """Stop following the document."""
        self._stop_listening()
        if self._task is not None:
            self._task.cancel()

    def _edited(self) -> None:
        if not self._wanted or self._task is not None:
            return
        graph, registry, place = self._document.graph, self._registry, self._document.project_dir
        what = _what_counts(graph, place)
        if what == self._seen:
            return
        self._seen = what
        self._task = run_task(lambda: current_fingerprints(graph, registry, place), self._take)

    def _take(self, found: dict[str, str | None]) -> None:
        self._task = None
        if found != self.found:
            self.found = found
            self.changed.emit()
        self._edited()  # the graph may have changed meanwhile


def _what_counts(graph: Graph, place: Path) -> object:
    """Everything in a graph that a fingerprint depends on; a node that is moved or renamed changes nothing."""
    return place, tuple((n.id, n.type, dict(n.settings)) for n in graph.nodes), set(graph.wires)
