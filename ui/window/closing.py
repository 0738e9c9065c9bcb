"""What happens to a run when its window is closed: keep running, stop, or cancel.

It asks the question, and waits for a run that stops first.
"""

from __future__ import annotations

from typing import Literal, cast

from PySide6.QtWidgets import QWidget

from ui.runs.controller import RunController
from ui.style.choice_dialog import Choice, ChoiceDialog
from ui.window.main_window import MainWindow
from ui.window.preferences import Preferences

Answer = Literal["keep", "stop", "cancel"]
KEEP = Choice("keep", "Keep Running in the Background", default=True)
STOP = Choice("stop", "Stop and Save")
CANCEL = Choice("cancel", "Cancel")


class CloseWhileRunning(ChoiceDialog):
    """Keep running, stop and save, or cancel. ``may_keep`` is False for a run inside this process:
    it cannot outlive the window."""

    def __init__(self, name: str, parent: QWidget | None = None, *, may_keep: bool = True) -> None:
        detail = (
            (
                "It can continue without the window. You can follow it again the next time LoRA "
                "Studio starts."
            )
            if may_keep
            else (
                "It runs inside this window and stops when the window closes. A checkpoint is "
                "saved first."
            )
        )
        choices = (KEEP, STOP, CANCEL) if may_keep else (STOP, CANCEL)
        super().__init__(
            "A run is in progress",
            f"“{name}” is still running.",
            detail,
            choices,
            "activity",
            parent,
        )


class Leaving:
    """``begun`` while the window waits for its run to stop before it closes."""

    def __init__(self, window: MainWindow, runs: RunController, preferences: Preferences) -> None:
        self._window, self._runs, self._preferences = window, runs, preferences
        self.begun = False

    def may_leave_run(self) -> bool:
        """Whether the window may close now; asks if a run is running."""
        live = self._runs.live
        if self._runs.phase not in ("running", "stopping") or live is None:
            return True
        in_host = self._preferences.values.run_in == "host" or live.attached
        choice = ask_closing(live.state.name or live.folder.id, self._window, may_keep=in_host)
        if choice != "stop":
            return choice == "keep"
        self.begun = True
        self._runs.stop()
        self._window.setEnabled(False)
        self._window.status.tell("Stopping and saving…")
        return self._runs.phase == "idle"


def ask_closing(name: str, parent: QWidget, *, may_keep: bool = True) -> Answer:
    """What to do with the run of this name."""
    return cast(Answer, CloseWhileRunning(name, parent, may_keep=may_keep).ask())
