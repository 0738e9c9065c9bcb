"""What to do with a run when its window is closed: go on, stop, or stay.

Only the question; the session acts.
"""

from __future__ import annotations

from typing import Literal, cast

from PySide6.QtWidgets import QWidget

from ui.dialogs.choice_dialog import Choice, ChoiceDialog

Answer = Literal["keep", "stop", "cancel"]
KEEP = Choice("keep", "Keep running in the background", default=True)
STOP = Choice("stop", "Stop and save")
CANCEL = Choice("cancel", "Cancel")


class CloseWhileRunning(ChoiceDialog):
    """Keep running, stop and save, or cancel. ``may_keep`` is False for a run inside this process:
    it cannot outlive the window."""

    def __init__(self, name: str, parent: QWidget | None = None, *, may_keep: bool = True) -> None:
        detail = (
            "It can go on without the window; the next start shows it again."
            if may_keep
            else "It runs inside this window and has to stop with it. A checkpoint is saved first."
        )
        choices = (KEEP, STOP, CANCEL) if may_keep else (STOP, CANCEL)
        super().__init__("A run is going on", f"“{name}” is still running.", detail, choices,
                         "activity", parent)  # fmt: skip


def ask_closing(name: str, parent: QWidget, *, may_keep: bool = True) -> Answer:
    """What to do with the run of this name."""
    return cast(Answer, CloseWhileRunning(name, parent, may_keep=may_keep).ask())
