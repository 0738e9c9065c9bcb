"""What follows the first paint: in short steps, so that the window answers at once.

The libraries of the curves are imported on a pool thread meanwhile. The modules below are imported at their first use;
it would be felt there, so that happens here, too. The curves come last: ``MainWindow.monitor`` is set when all is done.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

from workers.task import run_task

if TYPE_CHECKING:
    from ui.window.session import Session

LIBRARIES = ("numpy", "pyqtgraph", "regex")
"""In the order in which they are needed: by the check of the project, by the curves, by some settings."""
FIRST_USES = (
    "studio.data.detect",
    "studio.data.check",
    "studio.data.used_rows",
    "studio.data.full_check",
    "studio.model.models",
    "studio.estimate.job",
    "studio.adapters.configure",
    "studio.estimate.graph",
    "studio.estimate.words",
    "studio.estimate.forecast",
    "ui.inspector.editors.model",
    "ui.inspector.editors.pick",
    "ui.inspector.node_form",
    "ui.training.estimate_strip",
    "workers.run_thread",
    "ui.runs.follower",
    "ui.data.rows_page",
    "studio.recipe.recipe",
    "studio.recipe.facts",
    "studio.recipe.base_models",
    "ui.training.base_dialog",
    "ui.training.changes_dialog",
    "ui.window.tour",
)


class Opening(QObject):
    """Completes the window of a session: one step each time when its event loop has nothing else to do."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._waiting: tuple[str, ...] = LIBRARIES
        self._steps: Iterator[None] = self._made()
        self._timer = QTimer(self, interval=0)
        self._timer.timeout.connect(self._step)

    def start(self) -> None:
        """Begin; nothing is done before."""
        if not self._waiting:
            return  # stopped before, by a user who quits at once
        self._session.problems.wait()  # the check needs one of the libraries, and would wait for it
        self._import()
        self._timer.start()

    def stop(self) -> None:
        """Do no more steps."""
        self._timer.stop()
        self._waiting, self._steps = (), iter(())

    def _step(self) -> None:
        if next(self._steps, self) is self:
            self._timer.stop()

    def _import(self) -> None:
        name = self._waiting[0]
        run_task(lambda: importlib.import_module(name), self._imported)

    def _imported(self, module: object) -> None:
        del module
        self._waiting = self._waiting[1:]
        if self._waiting:
            self._import()
        self._timer.start()

    def _until_imported(self, name: str) -> Iterator[None]:
        while name in self._waiting:
            self._timer.stop()  # until a library is there
            yield

    def _made(self) -> Iterator[None]:
        session, window = self._session, self._session.window
        session.display.show_run()
        session.look_at_runs()
        yield
        if session.first_start:
            from ui.window import tour

            tour.offer(session)
            yield
        for name in FIRST_USES:
            importlib.import_module(name)
            yield
        yield from self._until_imported("numpy")
        session.problems.check()
        session.ask_for_device()
        yield
        yield from self._until_imported("pyqtgraph")
        for _ in window.make_monitor():
            yield
        assert window.monitor is not None
        window.monitor.run_wanted.connect(session.runs.show_run)
        session.display.show_curves()
        gc.freeze()  # later collections skip everything that was imported and built so far
        gc.enable()  # main.py has disabled it for the start
