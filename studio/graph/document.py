"""The Document: the current Graph, its undo history, its path and whether it has unsaved changes.

It is independent of Qt. Listeners are plain callables; they are called after every change and read
what they need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from studio.graph.graph import Graph
from studio.system.paths import current_dir

HISTORY_LIMIT = 500


@dataclass(frozen=True)
class _Entry:
    graph: Graph
    label: str
    merge_key: str | None


class Document:
    """A graph under edit.

    ``edit`` replaces the graph and records the old one. Consecutive edits with the same merge key
    (typing in one field, one drag) are one undo step.
    """

    def __init__(self, graph: Graph | None = None, path: Path | None = None) -> None:
        self._graph = graph or Graph()
        self._saved = self._graph
        self._undo: list[_Entry] = []
        self._redo: list[_Entry] = []
        self._merge_key: str | None = None
        self._listeners: list[Callable[[], None]] = []
        self.path = path

    @property
    def graph(self) -> Graph:
        """The current graph."""
        return self._graph

    @property
    def dirty(self) -> bool:
        """Whether the graph differs from what was last saved or opened."""
        return self._graph is not self._saved and self._graph != self._saved

    @property
    def project_dir(self) -> Path:
        """The folder that relative paths in settings start from."""
        return self.path.parent if self.path else current_dir()

    @property
    def undo_label(self) -> str | None:
        """The label of the edit that Undo reverts, or ``None``."""
        return self._undo[-1].label if self._undo else None

    @property
    def redo_label(self) -> str | None:
        """The label of the edit that Redo repeats, or ``None``."""
        return self._redo[-1].label if self._redo else None

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` after every change; returns a function that ends this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def edit(self, graph: Graph, label: str, merge_key: str | None = None) -> None:
        """Make ``graph`` the current one; a graph equal to the current one changes nothing."""
        if graph == self._graph:
            return
        if merge_key is None or merge_key != self._merge_key or not self._undo:
            self._undo.append(_Entry(self._graph, label, merge_key))
            del self._undo[:-HISTORY_LIMIT]
        self._merge_key = merge_key
        self._redo.clear()
        self._graph = graph
        if (
            merge_key is not None and graph == self._undo[-1].graph
        ):  # back to the graph from before the merged edits
            self._undo.pop()
            self._merge_key = None
        self._tell()

    def notify_listeners(self) -> None:
        """Call the listeners although the graph has not changed: a file or model that it refers to has."""
        self._tell()

    def end_merge(self) -> None:
        """End the current merge: the next edit is a separate undo step."""
        self._merge_key = None

    def undo(self) -> None:
        """Go back one step, if there is one."""
        self._step(self._undo, self._redo)

    def redo(self) -> None:
        """Go forward one step, if there is one."""
        self._step(self._redo, self._undo)

    def replace(self, graph: Graph, path: Path | None) -> None:
        """Start over with another graph (open, new): history is cleared and nothing is dirty."""
        self._graph = self._saved = graph
        self._undo.clear()
        self._redo.clear()
        self._merge_key = None
        self.path = path
        self._tell()

    def mark_saved(self, path: Path) -> None:
        """Mark the current graph as saved."""
        self._saved = self._graph
        self._merge_key = None
        self.path = path
        self._tell()

    def _step(self, source: list[_Entry], target: list[_Entry]) -> None:
        if not source:
            return
        entry = source.pop()
        target.append(_Entry(self._graph, entry.label, None))
        self._graph = entry.graph
        self._merge_key = None
        self._tell()

    def _tell(self) -> None:
        for listener in tuple(self._listeners):
            listener()
