"""The data of one window: the open dataset and its latest report.

It follows the document: after an edit the data are opened again, and a report of other data is
stale. The data host answers its requests through ``workers.data_link``. It holds no widget, and
edits the document only to apply a fix. What it needs for open data only is imported then, so that the
first paint does not wait for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PySide6.QtCore import QObject, QTimer, Signal

from studio.errors import Problem, StudioError
from studio.graph.document import Document
from studio.graph.edits import set_setting
from studio.graph.problems import settings_of
from studio.graph.registry import Registry
from studio.preview.protocol import DATA_CHANGED, HOST_ENDED, Reply
from workers.data_link import DataLink, Read, Receiver
from workers.task import Task, run_task

if TYPE_CHECKING:
    from studio.preview.report import DataReport, Fix
    from studio.runs.token_request import TokenRequest

WAIT_MS = 350
SMALL_ROWS = 5000
MOST_RESTARTS = 2  # restarts of a host that crashes on the same data
State = Literal["closed", "opening", "open", "failed"]


@dataclass(frozen=True)
class Progress:
    """Progress: ``done`` of ``total``; either may be unknown."""

    title: str
    done: int = 0
    total: int = 0
    eta_s: float | None = None


class DataController(QObject):
    """The data of one Train node at a time, the one requested last.

    ``changed``: the state has changed. ``report_changed``: the report or its progress has changed.
    ``report_done``: the report is complete. ``edited``: the graph was edited. ``message`` carries a
    sentence.
    """

    changed = Signal()
    report_changed = Signal()
    report_done = Signal()
    edited = Signal()
    message = Signal(object)

    def __init__(
        self,
        document: Document,
        registry: Registry,
        runs_dir: Callable[[], Path],
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self.document, self.registry, self._runs_dir = document, registry, runs_dir
        self.link = DataLink(self)
        self.train: str | None = None
        self.state: State = "closed"
        self.problem: Problem | None = None
        self.progress: Progress | None = None
        self.request: TokenRequest | None = None
        self.rows = 0
        self.openings = 0
        self.report: DataReport | None = None
        self.report_progress: Progress | None = None
        self.report_problem: Problem | None = None
        self._task: Task | None = None
        self._opening = 0
        self._reporting = 0
        self._report_wanted = False
        self._restarts = 0
        self._timer = QTimer(self, singleShot=True, interval=WAIT_MS)
        self._timer.timeout.connect(self._look)
        self._stop_listening: Callable[[], None] | None = document.listen(self._document_changed)

    # ------------------------------------------------------------ interface

    def look_at(self, train: str | None) -> None:
        """Show the data of this Train node, or none."""
        if train == self.train and (self.state in ("opening", "open") or train is None):
            return
        self.train = train
        self._set_closed()
        if train is not None:
            self.state = "opening"
            self._look()
        self.changed.emit()
        self.report_changed.emit()

    def retry(self) -> None:
        """Retry after an error."""
        self.request = None
        self._look()

    def ask(self, what: str, receiver: Receiver, read: Read | None = None, **more: Any) -> int:
        """Send a request about the open data to the host."""
        return self.link.ask(what, receiver, read, **more)

    @property
    def stale(self) -> bool:
        """Whether the data or settings have changed since the report."""
        if self.report is None:
            return False
        return self.request is None or self.state != "open" or self.report.key != self.request.key

    @property
    def reporting(self) -> bool:
        """Whether a report is being created."""
        return bool(self._reporting)

    def start_report(self) -> None:
        """Create a report in the background."""
        if self.state != "open" or self._reporting:
            return
        self.report_problem = None
        self.report_progress = Progress("Analyzing all rows", 0, self.rows)
        self._reporting = self.ask("report", self._report_replied, _read_report)
        self.report_changed.emit()

    def renew_report(self) -> None:
        """Open the data again, since files may have changed, and then create a report."""
        self._report_wanted = True
        self.retry()

    def cancel_report(self) -> None:
        """Cancel the report; the findings so far are kept."""
        if self._reporting:
            self.link.cancel(self._reporting)
        self._reporting, self.report_progress = 0, None
        self.report_changed.emit()

    def apply(self, fix: Fix) -> None:
        """Apply a fix, as one undo step."""
        from studio.preview.report import apply_fix

        graph = self.document.graph
        if all(graph.has(c.node) for c in fix.changes):
            self.document.end_merge()
            self.document.edit(apply_fix(graph, fix), f"Fix: {fix.title}")
            self.message.emit(f"Applied: {fix.title}. Undo reverts it.")

    @property
    def max_length(self) -> int | None:
        """The current maximum length of the Train node."""
        graph = self.document.graph
        if self.train is None or not graph.has(self.train):
            return None
        node = graph.node(self.train)
        node_type = self.registry.node_type(node.type)
        found = settings_of(node, node_type) if node_type is not None else None
        return getattr(found, "max_length", None)

    def set_max_length(self, tokens: int) -> None:
        """Set the maximum length, as one undo step."""
        if self.train is not None and self.document.graph.has(self.train):
            self.document.end_merge()
            changed = set_setting(self.document.graph, self.train, "max_length", tokens)
            self.document.edit(changed, f"Max length {tokens}")

    def close(self) -> None:
        """The window closes: end the host."""
        self._timer.stop()
        if self._stop_listening is not None:
            self._stop_listening()
            self._stop_listening = None
        if self._task is not None:
            self._task.cancel()
        self.link.close()

    # ------------------------------------------------------------ following the document

    def _document_changed(self) -> None:
        self.edited.emit()
        if self.train is not None:
            self._timer.start()

    def _look(self) -> None:
        """Find the data to open, in the background: it may read files."""
        from studio.runs.token_request import token_request

        self._timer.stop()
        graph, place = self.document.graph, self.document.project_dir
        if self.train is None or not graph.has(self.train):
            self.look_at(None)
            return
        if self._task is not None:
            self._task.cancel()
        train, registry = self.train, self.registry
        self._task = run_task(
            lambda: token_request(graph, registry, place, train), self._found, self._failed
        )

    def _found(self, found: tuple[TokenRequest | None, tuple[Problem, ...]]) -> None:
        request, problems = found
        if request is None:
            self._fail(next(p for p in problems if p.blocks))
            return
        unchanged = self.request is not None and request.to_json() == self.request.to_json()
        if unchanged and self.state in ("open", "opening") and not self._died():
            return
        self._restarts = 0
        self._open(request)

    def _died(self) -> bool:
        return self.state == "open" and self.link.process_id is None

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, StudioError):
            raise error
        self._fail(error.problem())

    def _fail(self, problem: Problem) -> None:
        self._let_go()
        self.state, self.problem, self.request = "failed", problem, None
        self.changed.emit()
        self.report_changed.emit()

    def _let_go(self) -> None:
        for number in (self._opening, self._reporting):
            if number:
                self.link.cancel(number)
        self._opening = self._reporting = 0
        self.progress = self.report_progress = None

    def _set_closed(self) -> None:
        self._let_go()
        if self._task is not None:
            self._task.cancel()
        self.state, self.problem, self.request = "closed", None, None
        self.report = self.report_problem = None
        self.rows = 0

    # ------------------------------------------------------------ opening

    def _open(self, request: TokenRequest) -> None:
        from studio.preview.report_cache import kept

        self._let_go()
        self.request, self.problem, self.state = request, None, "opening"
        found = kept(request.key)
        if found is not None:
            self.report = found
        runs = str(self._runs_dir())
        self._opening = self.ask("open", self._open_replied, request=request.to_json(), runs=runs)
        self.changed.emit()
        self.report_changed.emit()

    def _open_replied(self, reply: Reply) -> None:
        if reply.kind == "progress":
            self.progress = progress_of(reply)
            self.changed.emit()
        elif reply.kind == "error":
            self._opening = 0
            self._fail(problem_of(reply))
        elif reply.kind == "result":
            self._opening, self.progress = 0, None
            self.rows, self.state = int(reply.data["rows"]), "open"
            self.openings += 1
            wanted, self._report_wanted = self._report_wanted, False
            self.changed.emit()
            self.report_changed.emit()
            if wanted:
                self.start_report()

    def host_failed(self, reply: Reply) -> bool:
        """Whether a reply reports that the host has died, or that a file has changed; then the data are opened
        again, after a death only a few times: the data may be the cause."""
        code = reply.data.get("code") if reply.kind == "error" else None
        if code == DATA_CHANGED:
            self.request = None  # so that they are opened again, a moment after the last change
            self._timer.start()
            return True
        if code not in (HOST_ENDED, "not_open"):
            return False
        if self.state == "open" and self.request is not None:
            if self._restarts < MOST_RESTARTS:
                self._restarts += 1
                self._open(self.request)
            else:
                self._fail(problem_of(reply))
        return True

    # ------------------------------------------------------------ the report

    def _report_replied(self, reply: Reply) -> None:
        if reply.kind == "progress":
            self.report_progress = progress_of(reply)
        elif reply.kind in ("partial", "result"):
            self.report = reply.data["read"]
        elif reply.kind == "error" and not self.host_failed(reply):
            self.report_problem = problem_of(reply)
        if reply.last:
            self._reporting, self.report_progress = 0, None
        self.report_changed.emit()
        if reply.kind == "result":
            self.report_done.emit()


def _read_report(data: Any) -> DataReport:
    from studio.preview.report import report_from_json

    return report_from_json(data["report"])


def progress_of(reply: Reply) -> Progress:
    """The progress in a reply."""
    data = reply.data
    return Progress(
        str(data["title"]),
        int(data.get("done") or 0),
        int(data.get("total") or 0),
        data.get("eta_s"),
    )


def problem_of(reply: Reply) -> Problem:
    """The Problem in an error reply."""
    return Problem(**dict(reply.data))
