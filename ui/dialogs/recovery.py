"""The question when changes were found that an earlier session could not save."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, cast

from PySide6.QtCore import QDateTime, QLocale
from PySide6.QtWidgets import QWidget

from ui.dialogs.choice_dialog import Choice, ChoiceDialog

Answer = Literal["recover", "discard", "later"]


class RecoveryDialog(ChoiceDialog):
    """Recover, Throw away, or Decide later; Escape decides later."""

    def __init__(
        self, project: str, when: datetime | None = None, parent: QWidget | None = None
    ) -> None:
        choices = (
            Choice("recover", "Recover", default=True),
            Choice("discard", "Discard"),
            Choice("later", "Decide later"),
        )
        sentence = f"“{project}” has unsaved changes."
        detail = (
            f"LoRA Studio closed before they were saved{_time(when)}. Recovering them does not "
            "change the file until you save, and can be undone."
        )
        super().__init__("Recover changes", sentence, detail, choices, "history", parent)


def ask_recovery(
    project: str, when: datetime | None = None, parent: QWidget | None = None
) -> Answer:
    """What to do with changes that an earlier session left behind at ``when``."""
    return cast(Answer, RecoveryDialog(project, when, parent).ask())


def _time(when: datetime | None) -> str:
    if when is None:
        return ""
    moment = QDateTime.fromSecsSinceEpoch(int(when.timestamp()))
    return f" ({QLocale().toString(moment, QLocale.FormatType.ShortFormat)})"
