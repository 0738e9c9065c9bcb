"""The shown run in the panels: curves, log, results, node badges, status line.

Batches go to the log and schedule updates of the other panels; timers paint them, so that two
hundred events per second cost no more than twenty.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from PySide6.QtCore import QObject, QTimer, Slot

from studio.events import Event
from studio.runs.progress import progress_of
from studio.runs.state import RunState
from ui.runs.controller import RunController
from ui.window import run_banners
from ui.window.main_window import MainWindow

SHOW_EVERY_MS = 100
CLOCK_EVERY_MS = 1000
"The time left counts down between events too."
RESULT_EVENTS = ("ArtifactSaved", "Evaluation", "ExportChecked", "RunStarted", "RunFinished")
SAMPLE_EVENTS = (
    "Sample",
    "RunStarted",
    "TrainResumed",
    "Notice",
    "Phase",
    "StepFinished",
    "RunFinished",
)


class RunDisplay(QObject):
    """Updates the panels of a window for the run that its controller shows."""

    def __init__(self, window: MainWindow, runs: RunController, parent: QObject) -> None:
        super().__init__(parent)
        self._window, self._runs = window, runs
        self._timer = QTimer(self, singleShot=True, interval=SHOW_EVERY_MS)
        self._timer.timeout.connect(self.show_progress)
        self._clock = QTimer(self, interval=CLOCK_EVERY_MS)
        self._clock.timeout.connect(self.show_progress)
        runs.shown_changed.connect(self.show_run)
        runs.advanced.connect(self._advanced)
        runs.reading.connect(self._reading)
        runs.fingerprints.changed.connect(self.show_progress)

    @Slot()
    def show_run(self) -> None:
        """Show another run in the panels."""
        window, shown = self._window, self._runs.shown
        state = shown.state if shown else None
        story: Iterable[Event] = shown.story if shown else ()
        window.log.start()
        window.log.add_events(story)
        self._show_curves(state)
        window.results.show_state(state)
        window.insight.show_state(state)
        window.samples.show_state(state)
        window.runs.choose(shown.folder.id if shown is not None else "")
        self.show_progress()

    def show_curves(self) -> None:
        """Show the run in the curves, which are made later than the other panels."""
        self._show_curves(self._runs.shown.state if self._runs.shown else None)
        self.show_progress()

    def _show_curves(self, state: RunState | None) -> None:
        if self._window.monitor is not None:
            self._window.monitor.show_state(state)

    @Slot(float)
    def _reading(self, fraction: float) -> None:
        if self._window.monitor is not None:
            self._window.monitor.show_reading(fraction)

    @Slot(object)
    def _advanced(self, events: list[Event]) -> None:
        """A batch of the shown run was applied."""
        window = self._window
        window.log.add_events(events)
        if window.monitor is not None:
            window.monitor.refresh()
        names = {e.name for e in events}
        if not names or not names.isdisjoint(RESULT_EVENTS):  # without events, it was interrupted
            window.results.refresh()
        if "Insight" in names:
            window.insight.refresh()
        if not names.isdisjoint(SAMPLE_EVENTS):
            window.samples.add_events(events)
        recovered = [e for e in events if e.name == "MemoryRecovered"]
        if recovered and self._runs.shown is self._runs.live:
            run_banners.recovered(window, recovered[-1])
        if not self._timer.isActive():
            self._timer.start()

    def show_finish(self) -> None:
        """Whether Finish Training is available, or the training is ending because of it."""
        live, action = self._runs.live, self._window.own["finish"]
        action.setEnabled(self._runs.may_finish)
        ending = live is not None and live.alive and live.finishing and live.state.is_training()
        action.setText("Finishing…" if ending else action.property("plain-text"))

    def show_progress(self) -> None:
        """Node badges, header, list, the status line, the number of results."""
        window, shown, live = self._window, self._runs.shown, self._runs.live
        now = time.time()
        view, live_view = self._runs.view(shown), self._runs.view(live)
        of_shown, of_live = (
            progress_of(run.state, now, seen.status) if run and seen and seen.active else None
            for run, seen in ((shown, view), (live, live_view))
        )
        window.canvas.set_run_state(view.nodes if view else None, of_shown)
        if window.monitor is not None:
            window.monitor.show_view(view)
            window.monitor.show_progress(of_shown)
        if live is not None and live_view is not None:
            window.runs.show_status(live.folder.id, live_view.status)
        state = live.state if live else None
        window.status.show_run(self._runs.phase, state, live_view, of_live)
        self._clock.start() if of_live or of_shown else self._clock.stop()
        window.samples.set_may_ask(self._runs.may_sample)
        self.show_finish()
        window.show_result_count(view.results if view else 0)
