"""What to do with a run when its window is closed: go on, stop, or stay.

Only the question; the window acts.
"""

from __future__ import annotations

from typing import Literal

from PySide6.QtWidgets import QMessageBox, QWidget

Choice = Literal["keep", "stop", "cancel"]
KEEP = "Keep Running in the Background"
STOP = "Stop and Save"


def ask(parent: QWidget, name: str, *, may_keep: bool = True) -> Choice:
    """Ask. ``may_keep`` is False for a run inside this process: it cannot outlive the window."""
    box = QMessageBox(parent)
    box.setIcon(QMessageBox.Icon.Question)
    box.setWindowTitle("A run is going on")
    box.setText(f"“{name}” is still running.")
    box.setInformativeText(
        "It can go on without the window; the next start shows it again."
        if may_keep
        else "It runs inside this window and has to stop with it. A checkpoint is saved."
    )
    keep = box.addButton(KEEP, QMessageBox.ButtonRole.AcceptRole) if may_keep else None
    stop = box.addButton(STOP, QMessageBox.ButtonRole.DestructiveRole)
    cancel = box.addButton(QMessageBox.StandardButton.Cancel)
    box.setDefaultButton(keep or stop)
    box.setEscapeButton(cancel)
    box.exec()
    clicked = box.clickedButton()
    box.deleteLater()
    if keep is not None and clicked is keep:
        return "keep"
    return "stop" if clicked is stop else "cancel"
