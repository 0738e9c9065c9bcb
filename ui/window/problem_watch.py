"""Problems of the document, updated shortly after every edit.

Checks may read files, so they wait until typing pauses. Canvas, inspector and status bar listen to
its signal.
"""

from __future__ import annotations

from PySide6.QtCore import QObject, QTimer, Signal

from studio.chat_templates.render import patience
from studio.errors import Problem
from studio.graph.document import Document
from studio.graph.problems import find_problems
from studio.graph.registry import Registry

WAIT_MS = 150
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
