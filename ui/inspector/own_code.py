"""A strip in a model's form that reports custom code, with a button to review it.

It is shown only for models with custom code. The decision is made in the dialog.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QPushButton, QWidget

from studio.model import trust
from studio.model.models import local_folder
from ui.inspector.trust_dialog import TrustDialog
from ui.style.widgets import MutedLabel


def code_of(model: str, revision: str, project_dir: Path) -> trust.OwnCode | None:
    """The custom code of a local model, or of the snapshot of a Hub model."""
    folder = local_folder(model.strip(), project_dir)
    if folder is None:
        return None
    commit = folder.name if folder.parent.name == "snapshots" else (revision or None)
    return trust.own_code(folder, model.strip(), commit)


class OwnCodeStrip(QWidget):
    """A sentence about the custom code and a button; ``decided`` is emitted after an answer."""

    decided = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._code: trust.OwnCode | None = None
        self._words = MutedLabel("", self)
        self.button = QPushButton("Review Code…", self)
        self.button.setObjectName("review-code")
        self.button.clicked.connect(self.review)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.addWidget(self._words, 1)
        row.addWidget(self.button)
        self.hide()

    def show_code(self, code: trust.OwnCode | None) -> None:
        """Show the strip for a model's code; none: hide it."""
        self._code = code
        self.setVisible(code is not None)
        if code is None:
            return
        count = len(code.files)
        files = "1 file" if count == 1 else f"{count} files"
        state = "which you trust" if trust.trusted(code) else "trusted"
        self._words.setText(f"This model uses custom code ({files}), {state}.")

    def review(self) -> None:
        """Open the dialog to review the code."""
        if self._code is None:
            return
        dialog = TrustDialog(self._code, self.window())
        answer = dialog.exec()
        dialog.deleteLater()
        if answer == TrustDialog.DialogCode.Accepted:
            trust.trust(self._code)
        self.show_code(self._code)
        self.decided.emit()
