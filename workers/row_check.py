"""The check of all rows in the window: on a pool thread, in short bursts, so that the window stays smooth.

It follows nobody: ``look`` is called when the graph, or a file, may have changed. It must not touch
a widget.
"""

from __future__ import annotations

import time
from pathlib import Path
from threading import Event

from PySide6.QtCore import QObject, QThreadPool, Signal

from studio.graph.graph import Graph
from studio.graph.registry import Registry
from workers.task import Task, run_task

BUDGET_S = 20.0
BEFORE_RUN_S = 2.0
_BURST_S, _REST_S = 0.002, 0.003  # the interpreter lock is free for the window in between


class RowCheck(QObject):
    """At most one check at a time. ``checked``: there are new results."""

    checked = Signal()

    def __init__(self, registry: Registry, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._registry = registry
        self._graph: Graph | None = None
        self._task: Task | None = None
        self._stop = Event()
        self._telling = False

    @property
    def busy(self) -> bool:
        """Whether rows are being read."""
        return self._task is not None

    def look(self, graph: Graph, project_dir: Path) -> None:
        """Check what has not been checked yet; a check of another graph ends."""
        if self._telling:
            return  # a file that grows all the time is not read all the time
        if self._task is not None and self._same_data(graph):
            return
        self.cancel()
        from studio.runs.row_check import is_unchecked  # not before the first paint

        if not is_unchecked(graph, self._registry, project_dir):
            return
        self._graph, self._stop = graph, Event()
        stop, registry = self._stop, self._registry
        self._task = run_task(
            lambda: _work(graph, registry, project_dir, BUDGET_S, stop), self._done, self._failed
        )

    def cancel(self) -> None:
        """End the check without a result."""
        self._stop.set()
        if self._task is not None:
            self._task.cancel()
        self._task = None

    def _same_data(self, graph: Graph) -> bool:
        assert self._graph is not None
        return _data_nodes(graph) == _data_nodes(self._graph)

    def _done(self, found: bool) -> None:
        self._task = None
        if found:
            self._telling = True
            self.checked.emit()
            self._telling = False

    def _failed(self, error: Exception) -> None:
        self._task = None
        raise error


def _data_nodes(graph: Graph) -> list[tuple[str, object]]:
    """What is checked, as far as it is in the graph."""
    found: list[tuple[str, object]] = []
    for node in graph.nodes:
        if node.type == "dataset":
            found.append((node.id, node.settings))
        else:
            found.append((node.id, [node.settings.get(name) for name in _OF_TEMPLATES]))
    return found


_OF_TEMPLATES = ("model", "chat_template", "custom_template", "chat_template_kwargs")


def check_before_run(graph: Graph, registry: Registry, project_dir: Path) -> None:
    """Check rows that have not been checked yet, on the pool thread that prepares a run. A check that does not come
    to its end is left to the run."""
    _work(graph, registry, project_dir, BEFORE_RUN_S, Event(), keep_parts=False)


def _work(
    graph: Graph,
    registry: Registry,
    project_dir: Path,
    budget_s: float,
    stop: Event,
    *,
    keep_parts: bool = True,
) -> bool:
    """On a pool thread, whose place in the pool is released to other work."""
    from studio.runs.row_check import check_all_rows

    pool = QThreadPool.globalInstance()
    pool.releaseThread()
    began = time.monotonic()

    def stopped() -> bool:
        nonlocal began
        if time.monotonic() - began > _BURST_S:
            time.sleep(_REST_S)
            began = time.monotonic()
        return stop.is_set()

    try:
        return check_all_rows(
            graph, registry, project_dir, budget_s, stopped, keep_parts=keep_parts
        )
    finally:
        pool.reserveThread()
