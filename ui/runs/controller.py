"""The runs of this window: start, stop, resume, attach, show an earlier one.

At most one run is ``live`` (started here or found running); the panels may show another, earlier
one (``shown``). It links Document, RunThread and RunState; compiling, running and reading events
are in ``studio.runs`` and ``workers``. It uses no widgets.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from PySide6.QtCore import QObject, Signal, Slot

from studio.errors import Problem, StudioError
from studio.graph.document import Document
from studio.graph.graph import Graph
from studio.graph.registry import Registry
from studio.runs.compare import Comparison, compare
from studio.runs.folder import RunFolder, list_runs
from studio.runs.plan import Compiled, compile_plan
from studio.runs.status import RunView, view_of
from studio.system import torch_report
from studio.system.settings import AppSettings
from ui.runs.fingerprints import CurrentFingerprints
from ui.runs.follower import RunFollower
from workers.row_check import check_before_run
from workers.run_thread import Mode, RunThread
from workers.task import Task, run_task

LOOK_AT_RUNS = 30


class RunController(QObject):
    """The actions for runs, and the shown run.

    ``changed``: the available actions may have changed. ``refused``: Run found Problems (a list).
    ``start_failed``: a StudioError or another exception while starting a run. ``shown_changed``:
    panels show another run. ``advanced``: a batch of events of the shown run was applied. ``reading``:
    the fraction of its earlier events that was read.
    ``resume_differs``: a run was not resumed, because the graph differs from it (``RunFolder``, ``Comparison``).
    ``run_ended``: the live run ended (the follower).
    """

    changed = Signal()
    refused = Signal(object)
    start_failed = Signal(object)
    shown_changed = Signal()
    advanced = Signal(object)
    reading = Signal(float)
    resume_differs = Signal(object, object)
    run_started = Signal(object)
    run_ended = Signal(object)

    def __init__(
        self,
        document: Document,
        registry: Registry,
        settings: Callable[[], AppSettings],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._document, self._registry = document, registry
        self._settings = settings
        self.live: RunFollower | None = None
        self.shown: RunFollower | None = None
        self._task: Task | None = None
        self._compiled_graph: Graph | None = None
        self.warnings: tuple[Problem, ...] = ()
        """What the project of the last run that was started here was warned of."""
        self._resumable: RunFolder | None = None
        self.fingerprints = CurrentFingerprints(document, registry, self)
        self._of_project: set[str] = (
            set()
        )  # IDs of runs started here, even if the project is renamed

    # ------------------------------------------------------------ state

    @property
    def runs_dir(self) -> Path:
        """Where runs are kept."""
        return self._settings().runs_dir()

    @property
    def leaves_core(self) -> bool:
        """Whether a run of the window leaves one CPU core to other programs where there are many."""
        return self._settings().leave_core

    @property
    def phase(self) -> str:
        """``idle``, ``preparing``, ``running`` or ``stopping``."""
        if self._task is not None:
            return "preparing"
        if self.live is None or not self.live.alive:
            return "idle"
        return "stopping" if self.live.stopping else "running"

    @property
    def resumable(self) -> RunFolder | None:
        """The newest run of this project, if it can be resumed and no run is live."""
        return self._resumable if self.phase == "idle" else None

    def look_for_resumable(self) -> None:
        """Find out whether this project's newest run was stopped or interrupted."""
        runs = list_runs(self.runs_dir)[:LOOK_AT_RUNS]
        newest = next((run for run in runs if self.is_of_project(run)), None)
        self._resumable = newest if newest is not None and may_resume(newest) else None
        self.changed.emit()

    def is_of_project(self, run: RunFolder) -> bool:
        """Whether a run belongs to the open project."""
        if run.id in self._of_project:
            return True
        try:
            plan = run.plan()
        except StudioError:
            return False
        here = (self._document.graph.name, self._document.project_dir.resolve())
        return (plan.name, plan.project_dir) == here

    def project_opened(self) -> None:
        """Handle that another project was opened."""
        self._of_project.clear()
        for follower in (self.live, self.shown):
            if follower is not None:
                follower.own = self.is_of_project(follower.folder)
        self._look_at_graph()

    def _look_at_graph(self) -> None:
        """Fingerprints are needed while a run of this project is shown."""
        wanted = self.shown is not None and self.shown.own
        self.fingerprints.look() if wanted else self.fingerprints.rest()

    def view(self, follower: RunFollower | None) -> RunView | None:
        """A run as every part of the window shows it."""
        if follower is None:
            return None
        return view_of(
            follower.state,
            follower.status,
            name=follower.name,
            own=follower.own,
            ran=follower.ran,
            now=self.fingerprints.found,
        )

    # ------------------------------------------------------------ run

    def run(self) -> None:
        """Compile the current graph and run it, or emit the Problems that prevent it."""
        if self.phase != "idle":
            return
        graph, registry = self._document.graph, self._registry
        folder = self._document.project_dir
        runs_dir, leaves_core = self.runs_dir, self.leaves_core
        self._compiled_graph = graph

        def prepare() -> Compiled:
            from studio.estimate.forecast import forecast_of

            torch_report.ask()
            check_before_run(graph, registry, folder)
            compiled = compile_plan(graph, registry, folder)
            if compiled.plan is None:
                return compiled
            forecast = forecast_of(compiled.plan, graph, registry, runs_dir, leaves_core)
            return replace(compiled, forecast=forecast)

        self._task = run_task(prepare, self._compiled, self._not_compiled)
        self.changed.emit()

    def _compiled(self, compiled: Compiled) -> None:
        self._task = None
        graph, self._compiled_graph = self._compiled_graph, None
        if compiled.plan is None or graph is None:
            self.changed.emit()
            problems: list[Problem] = list(compiled.problems)
            self.refused.emit(problems)
            return
        try:
            folder = RunFolder.create(self.runs_dir, compiled.plan, graph, compiled.forecast)
        except StudioError as error:
            self.changed.emit()
            self.start_failed.emit(error)
            return
        self._of_project.add(folder.id)
        self.warnings = compiled.problems
        self._go(folder, self._settings().run_in)

    def _not_compiled(self, error: Exception) -> None:
        self._task = None
        self.changed.emit()
        self.start_failed.emit(error)

    def resume(self, folder: RunFolder | None = None) -> None:
        """Resume a run in its folder; by default the newest one of this project. If the graph is another one than that
        of the run, ``resume_differs`` is emitted instead."""
        folder = folder or self.resumable
        if folder is None or self.phase != "idle" or not may_resume(folder):
            return
        if not self.is_of_project(folder):
            self.resume_as_it_was(folder)
            return
        graph, registry, place = self._document.graph, self._registry, self._document.project_dir

        def compared(found: Comparison) -> None:
            self._task = None
            self.changed.emit()
            if found.lines:
                self.resume_differs.emit(folder, found)
            else:
                self.resume_as_it_was(folder)

        self._task = run_task(
            lambda: compare(folder, graph, registry, place), compared, self._not_compiled
        )
        self.changed.emit()

    def resume_as_it_was(self, folder: RunFolder) -> None:
        """Continue a run with its own graph."""
        if self.phase == "idle" and may_resume(folder):
            self._go(folder, self._settings().run_in)

    def attach(self, folder: RunFolder) -> None:
        """Follow a run that is running in another host."""
        if self.phase == "idle":
            self._go(folder, "attach")

    def _go(self, folder: RunFolder, mode: Mode) -> None:
        follower = self._follow(folder, mode)
        follower.ended.connect(self._live_ended)
        self._drop(self.live)
        self.live = follower
        self._resumable = None
        self._show(follower)
        follower.start()
        self.changed.emit()
        self.run_started.emit(follower)

    def _follow(self, folder: RunFolder, mode: Mode) -> RunFollower:
        leave_core = self._settings().leave_core
        thread = RunThread(folder, mode, leave_core=leave_core, registry=self._registry)
        follower = RunFollower(thread, folder, self)
        follower.own = self.is_of_project(folder)
        follower.advanced.connect(self._advanced)
        follower.reading.connect(self._reading)
        follower.replaced.connect(self._replaced)
        return follower

    def stop(self) -> None:
        """Stop the live run after a checkpoint."""
        if self.live is not None and self.phase == "running":
            self.live.stop()
            self.changed.emit()

    @property
    def may_finish(self) -> bool:
        """Whether the live run is training and has not been asked to finish yet."""
        live = self.live
        if live is None or self.phase != "running" or live.finishing:
            return False
        return live.state.is_training()

    def finish(self) -> None:
        """End the training of the live run with its current step; the later steps follow."""
        if self.live is not None and self.may_finish:
            self.live.finish()
            self.changed.emit()

    @property
    def may_sample(self) -> bool:
        """Whether the shown run is training, so that samples can be requested."""
        live = self.live
        if live is None or live is not self.shown or self.phase != "running":
            return False
        node = live.state.nodes.get(live.state.current or "")
        return node is not None and node.type == "train"

    def sample(self, prompts: Sequence[str] = ()) -> None:
        """Request answers of the model during training to these prompts, or to those of the
        project."""
        if self.live is not None and self.may_sample:
            self.live.sample(prompts)

    @Slot(object)
    def _live_ended(self, status: str) -> None:
        del status
        self.look_for_resumable()
        if self.live is self.shown:
            self.advanced.emit([])
        self.run_ended.emit(self.live)

    # ------------------------------------------------------------ show

    def show_run(self, folder: RunFolder) -> None:
        """Show a run in the panels: the live one, or an earlier one read from its folder."""
        if self.live is not None and self.live.folder.id == folder.id:
            self._show(self.live)
            return
        if self.phase == "idle" and folder.is_running():
            self.attach(folder)
            return
        follower = self._follow(folder, "attach")
        follower.ended.connect(self._shown_ended)
        self._show(follower)
        follower.start()

    @Slot(object)
    def _shown_ended(self, status: str) -> None:
        del status
        self.advanced.emit([])

    @Slot(object)
    def _advanced(self, events: object) -> None:
        if self.sender() is self.shown:
            self.advanced.emit(events)

    @Slot()
    def _reading(self) -> None:
        if self.shown is not None and self.sender() is self.shown and self.shown.read is not None:
            self.reading.emit(self.shown.read)

    @Slot()
    def _replaced(self) -> None:
        if self.sender() is self.shown:
            self.shown_changed.emit()
        self.changed.emit()

    def _show(self, follower: RunFollower | None) -> None:
        old, self.shown = self.shown, follower
        if old is not None and old is not self.live and old is not follower:
            self._drop(old)
        self._look_at_graph()
        self.shown_changed.emit()

    def forget(self, folder: RunFolder) -> None:
        """Stop showing a run whose folder was deleted."""
        if self.shown is not None and self.shown.folder.id == folder.id:
            self._show(None)
        if self.live is not None and self.live.folder.id == folder.id and not self.live.alive:
            self._drop(self.live)
            self.live = None
        self.look_for_resumable()

    def _drop(self, follower: RunFollower | None) -> None:
        if follower is None or follower is self.shown:
            return
        if follower.alive:
            follower.let_go()
        follower.deleteLater()

    def running_elsewhere(self) -> RunFolder | None:
        """The newest run that is running without this window."""
        for run in list_runs(self.runs_dir)[:LOOK_AT_RUNS]:
            mine = self.live is not None and self.live.alive and self.live.folder.id == run.id
            if not mine and run.is_running():
                return run
        return None

    def close(self) -> None:
        """Stop following; runs in separate hosts continue."""
        self.fingerprints.close()
        if self._task is not None:
            self._task.cancel()
            self._task = None
        for follower in {self.live, self.shown}:
            if follower is not None and follower.alive:
                follower.let_go()


def may_resume(folder: RunFolder) -> bool:
    """Whether a run is offered to be resumed."""
    return folder.remains().offered(folder.status())
