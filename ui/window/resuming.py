"""The question before a run is resumed whose graph is not the one on the canvas."""

from __future__ import annotations

from typing import Literal

from PySide6.QtWidgets import QWidget

from studio.graph import guide
from studio.runs.compare import Comparison
from ui.style.choice_dialog import Choice, ChoiceDialog
from ui.style.guide_link import explain

Answer = Literal["new", "as_it_was", "cancel"]
NEW = Choice("new", "Run with the New Settings", default=True)
AS_IT_WAS = Choice("as_it_was", "Resume as It Was")
CANCEL = Choice("cancel", "Cancel")


class ResumeDialog(ChoiceDialog):
    """Names what differs, and offers a new run or the earlier one."""

    def __init__(self, found: Comparison, parent: QWidget | None = None) -> None:
        then = (
            "“Run with the New Settings” starts a new run, which reuses the steps that have not changed. “Resume as It "
            "Was” continues this run with its own settings."
            if found.can_continue
            else "This run cannot be continued, because a step that had not finished reads these files. A new run "
            "reuses the steps that have not changed."
        )
        super().__init__(
            "Resume Run",
            "The project has changed since this run.",
            "\n".join([*found.short_lines(), "", then]),
            (NEW, AS_IT_WAS, CANCEL) if found.can_continue else (NEW, CANCEL),
            "history",
            parent,
        )
        explain(self, guide.PARTS["changed"])


def ask(parent: QWidget, found: Comparison) -> Answer:
    """Ask what to do."""
    answers: dict[str, Answer] = {"new": "new", "as_it_was": "as_it_was"}
    return answers.get(ResumeDialog(found, parent).ask(), "cancel")
