"""The question before a project with unsaved changes is left."""

from __future__ import annotations

from typing import Literal, cast

from PySide6.QtWidgets import QWidget

from ui.dialogs.choice_dialog import Choice, ChoiceDialog

Answer = Literal["save", "discard", "cancel"]


class UnsavedChangesDialog(ChoiceDialog):
    """Save, Don't save, or Cancel; Escape cancels."""

    def __init__(self, project: str, parent: QWidget | None = None) -> None:
        choices = (
            Choice("save", "Save", default=True),
            Choice("discard", "Don't Save"),
            Choice("cancel", "Cancel"),
        )
        sentence = f"Save the changes to “{project}”?"
        detail = "If you don't save, your changes are lost."
        super().__init__("Unsaved changes", sentence, detail, choices, "save", parent)


def ask_unsaved(project: str, parent: QWidget | None = None) -> Answer:
    """What to do with unsaved changes of this project."""
    return cast(Answer, UnsavedChangesDialog(project, parent).ask())
