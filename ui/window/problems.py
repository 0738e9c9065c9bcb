"""Problems of the document in one window: found shortly after every edit, and shown to the user.

Checks may read files, so they wait until typing pauses. Instead of a dialog, a refused Run selects
the node, focuses the field and shows the reason in the status bar.
"""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Signal, Slot

from studio.chat_templates.render import patience
from studio.errors import Problem
from studio.graph.document import Document
from studio.graph.problems import find_problems
from studio.graph.registry import Registry
from ui.data.tabs import REPORT, ROWS
from ui.window.main_window import MainWindow

WAIT_MS = 150
_TABS = {
    "nothing_trained": REPORT,
    "unused_column": ROWS,
    "unused_content": ROWS,
    "missing_column": ROWS,
    "unknown_format": ROWS,
    "unsure_format": ROWS,
}
"""The problems that are fixed in a tab of the data."""
_TEMPLATE_S = 0.3  # the window is blocked while a custom template is tried


class ProblemWatch(QObject):
    """``changed`` carries the list of Problems after each check.

    Those of severity ``info`` are facts of the node, and are shown as such.
    """

    changed = Signal(object)

    def __init__(self, document: Document, registry: Registry, parent: QObject) -> None:
        super().__init__(parent)
        self._document, self._registry = document, registry
        self.problems: list[Problem] = []
        self._timer = QTimer(self, singleShot=True, interval=WAIT_MS)
        self._timer.timeout.connect(self.check)
        self._stop_listening = document.listen(self._timer.start)

    def close(self) -> None:
        """Stop following the document."""
        self._timer.stop()
        self._stop_listening()

    def wait(self) -> None:
        """Do not check until ``check`` is called or the document changes."""
        self._timer.stop()

    def check(self) -> list[Problem]:
        """Check now."""
        self._timer.stop()
        document = self._document
        with patience(_TEMPLATE_S):
            found = find_problems(document.graph, self._registry, document.project_dir)
        self.problems = [p for p in found if p.severity != "info"]
        self.changed.emit(self.problems)
        return self.problems

    def show(self, problems: list[Problem]) -> None:
        """Emit Problems found elsewhere (by the compiler, after Run was pressed)."""
        self._timer.stop()
        self.problems = [p for p in problems if p.severity != "info"]
        self.changed.emit(self.problems)


class ProblemGuide(QObject):
    """Shows the Problems that a watch finds in every part of a window: badges, fields, the count, the
    next problem."""

    def __init__(self, window: MainWindow, watch: ProblemWatch, document: Document) -> None:
        super().__init__(window)
        self._window, self._watch, self._document = window, watch, document
        self._next = 0
        watch.changed.connect(self._show)

    @Slot(object)
    def _show(self, problems: list[Problem]) -> None:
        self._next = 0
        self._window.canvas.set_problems(problems)
        self._window.inspector.set_problems(problems)
        self._window.status.show_problems(problems)
        self._window.own["next_problem"].setEnabled(bool(problems))

    def go_to_next(self) -> None:
        """Go to the next problem, cyclically."""
        found = self._watch.problems
        if found:
            self.go_to(found[self._next % len(found)])
            self._next += 1

    @Slot(object)
    def go_to(self, problem: Problem) -> None:
        """Show where a problem can be fixed."""
        hint = f" {problem.hint}" if problem.hint else ""
        self._window.status.tell(problem.sentence + hint)
        if problem.node is None or not self._document.graph.has(problem.node):
            self._window.canvas.select(())
            return
        self._window.canvas.select((problem.node,))
        self._window.docks["inspector"].show()
        tab = _TABS.get(problem.code)
        if tab is not None:
            self._window.inspector.show_tab(problem.node, tab)
        else:
            self._window.inspector.focus_field(problem.node, problem.field)

    @Slot(object)
    def refused(self, problems: list[Problem]) -> None:
        """Show all Problems after a refused Run, and go to the first."""
        self._watch.show(problems)
        blocking = [p for p in problems if p.blocks]
        if not blocking:
            return
        self.go_to(blocking[0])
        more = f" ({len(blocking)} problems)" if len(blocking) > 1 else ""
        self._window.status.tell(f"Not started{more}: {blocking[0].sentence}")

    @Slot()
    def go_to_prompts(self) -> None:
        """Go to the sample prompts of the first Train node."""
        node = next((n.id for n in self._document.graph.nodes if n.type == "train"), None)
        if node is None:
            self._window.status.tell("Add a Train node first: prompts are set there under Samples.")
            return
        self._window.docks["inspector"].show()
        self._window.canvas.select((node,))
        self._window.inspector.focus_field(node, "sample_prompts")
