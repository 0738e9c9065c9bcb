"""The estimates of all Train nodes, updated shortly after every edit in the background.

Free memory is read only while nothing runs, so that the memory of a running training does not count
against it. Canvas and inspector listen to its signal.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from studio.estimate.machine import Machine, this_machine, wanted_in
from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.system.device import current
from ui.runs.controller import RunController
from workers.task import Task, run_task

if TYPE_CHECKING:
    from studio.estimate.graph import Estimate
    from studio.estimate.job import Facts

    Found = tuple[Facts | None, dict[str, Estimate]]

WAIT_MS = 120


class EstimateWatch(QObject):
    """``changed`` carries the estimates by node ID after each update."""

    changed = Signal(object)

    def __init__(
        self,
        document: Document,
        registry: Registry,
        runs: RunController,
        idle: Callable[[], bool],
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._runs = runs
        self._document, self._registry, self._idle = document, registry, idle
        self.found: dict[str, Estimate] = {}
        self._facts: Facts | None = None
        self._task: Task | None = None
        self._again = False
        self._timer = QTimer(self, singleShot=True, interval=WAIT_MS)
        self._timer.timeout.connect(self.check)
        self._stop_listening = document.listen(self._timer.start)
        self._timer.start()

    def close(self) -> None:
        """Stop following the document."""
        self._timer.stop()
        self._stop_listening()
        if self._task is not None:
            self._task.cancel()

    def facts(self) -> Facts:
        """The facts of the newest estimates."""
        from studio.estimate.job import Facts

        return self._facts or Facts(this_machine(self._document.graph))

    @Slot()
    def look_soon(self) -> None:
        """Schedule an update."""
        self._timer.start()

    def check(self) -> None:
        """Update now, or after the running update."""
        self._timer.stop()
        if self._task is not None:
            self._again = True
            return
        graph, registry = self._document.graph, self._registry
        folder = self._document.project_dir
        machine = self._machine_in_use(graph)
        place = self._runs.runs_dir, self._runs.leaves_core
        self._task = run_task(
            lambda: _estimates(graph, registry, folder, place, machine), self._take
        )

    def _machine_in_use(self, graph: Graph) -> Machine | None:
        """The machine as it was before the run that uses its memory; ``None`` while nothing runs, and
        for another device."""
        if self._facts is None or self._idle():
            return None
        machine, wanted = self._facts.machine, wanted_in(graph)
        same = machine.wanted == wanted and machine.name == current(wanted).label
        return machine if same else None

    def _take(self, found: Found) -> None:
        self._task = None
        self._facts = found[0] or self._facts
        if found[1] != self.found:
            self.found = found[1]
            self.changed.emit(self.found)
        if self._again:
            self._again = False
            self._timer.start()


def _estimates(
    graph: Graph,
    registry: Registry,
    folder: Path,
    place: tuple[Path, bool],
    machine: Machine | None,
) -> Found:
    """The estimate of each Train node."""
    from studio.estimate.earlier import facts_here
    from studio.estimate.graph import estimate_graph

    trains = [n.id for n in graph.nodes if n.type == "train"]
    if not trains:
        return None, {}
    facts = facts_here(place[0], registry, place[1], machine or this_machine(graph))
    made = (estimate_graph(graph, registry, folder, facts, node) for node in trains)
    return facts, {e.node: e for e in made if e is not None}
