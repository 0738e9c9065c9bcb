"""From a finished training to a program that runs the model: the export that is missing is added to the graph and run,
and its result added to the program.

Steps that have not changed are reused, so that nothing is trained again. If the training has changed since the run, the
nodes are added, and the user decides whether to run.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Slot
from PySide6.QtGui import QCursor
from PySide6.QtWidgets import QMenu

from studio.errors import StudioError
from studio.export_folder.commands import complete_models
from studio.recipe.export_for import export_for
from ui.runs.follower import RunFollower
from ui.window.main_window import RESULTS

if TYPE_CHECKING:
    # Import cycle: the session owns this object, and it acts on the session.
    from ui.window.session import Session

TITLES = {"ollama": "Ollama", "lm_studio": "LM Studio"}
_FORMATS = {"ollama": "ollama", "lm_studio": "gguf"}
_KINDS = {"ollama": ("ollama_folder",), "lm_studio": ("gguf", "ollama_folder")}


class UseResult(QObject):
    """Uses the shown run in other programs."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self._session = session
        self._wanted = ""  # the program for which the live run exports
        self._node = ""
        self.menu = QMenu(session.window)
        for program, title in TITLES.items():
            self.menu.addAction(title, partial(self.use_in, program))
        results = session.window.results.artifacts
        results.export_wanted.connect(self.use_in)
        results.use.done.connect(session.window.status.tell)
        session.runs.run_ended.connect(self._ended)
        session.runs.refused.connect(self._forget)
        session.runs.start_failed.connect(self._forget)

    def choose(self) -> None:
        """Ask for the program, at the pointer."""
        self.menu.popup(QCursor.pos())

    @Slot(str)
    def use_in(self, program: str) -> None:
        """Add the model of the shown run to a program; what is missing is exported first."""
        session = self._session
        shown = session.runs.shown
        session.window.show_tab(RESULTS)
        if shown is None or session.runs.phase != "idle" or self._add(shown, program):
            return
        graph = session.document.graph
        title = f"For {TITLES[program]}"
        try:
            edited, node = export_for(graph, _FORMATS[program], title)
        except StudioError as error:
            session.note(f"{error.sentence} {error.hint}")
            return
        view = session.runs.view(shown)
        changed = () if view is None else tuple(n for n in view.changed if graph.has(n))
        if edited is not graph:
            session.document.edit(edited, f"Export for {TITLES[program]}")
        trained = [n for n in changed if graph.node(n).type not in ("export", "merge", "evaluate")]
        if view is None or not view.own or trained:
            session.window.banner.offer(
                "use",
                "info",
                f"An Export node for {TITLES[program]} was added. The project has changed since the shown run, so that "
                "Run trains again.",
                [("Run", lambda: self._run(program, node))],
            )
            return
        self._run(program, node)

    def _run(self, program: str, node: str) -> None:
        self._wanted, self._node = program, node
        self._session.runs.run()

    @Slot(object)
    def _forget(self, why: object) -> None:
        del why
        self._wanted = ""

    @Slot(object)
    def _ended(self, follower: RunFollower) -> None:
        wanted, self._wanted = self._wanted, ""
        if wanted and follower.state.status == "completed" and self._add(follower, wanted):
            self._session.window.show_tab(RESULTS)

    def _add(self, follower: RunFollower, program: str) -> bool:
        """Add what a run has exported for a program; whether there was something."""
        made = [
            a
            for a in reversed(follower.state.artifacts)
            if a.get("kind") in _KINDS[program] and Path(str(a.get("path"))).is_dir()
        ]
        if program == "lm_studio":  # it has no place for adapters
            made = [a for a in made if complete_models(Path(str(a["path"])))]
        made.sort(key=lambda a: a.get("node") != self._node)
        if not made:
            return False
        artifact = made[0]
        results = self._session.window.results.artifacts
        results.use_in(program, str(artifact["kind"]), Path(str(artifact["path"])))
        return True
