"""The custom code of a model: a strip in its form that reports it, and the dialog to review and trust
it.

The dialog shows every file and requires a deliberate confirmation; nothing here runs or imports the
code.
"""

from __future__ import annotations

from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QFontDatabase
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QDialogButtonBox,
    QHBoxLayout,
    QListWidget,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.model import trust
from studio.model.models import local_folder
from studio.model.trust import OwnCode
from ui.style.widgets import MutedLabel, TextLabel, resize_on_screen

_WIDTH_IN_DIGITS, _HEIGHT_IN_LINES, _LIST_IN_DIGITS = 118, 34, 26


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


class TrustDialog(QDialog):
    """Shows the files of custom code; accepted if the user trusts them."""

    def __init__(self, code: OwnCode, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._code = code
        self.setWindowTitle("Model With Custom Code")
        self.setAccessibleName(self.windowTitle())
        where = f" at {code.revision[:12]}" if code.revision else ""
        self._sentence = TextLabel(
            f"{code.source}{where} requires custom Python code. This code runs with all your "
            "permissions: it can read, change and send your files.",
            self,
        )
        self._hint = MutedLabel(
            (
                "Your decision applies to exactly these files. If one of them changes, you are "
                "asked again."
            ),
            self,
        )
        self.files = QListWidget(self)
        self.files.setAccessibleName("Files")
        self.files.addItems(list(code.files))
        self.text = QPlainTextEdit(self)
        self.text.setReadOnly(True)
        self.text.setAccessibleName("File content")
        self.text.setLineWrapMode(QPlainTextEdit.LineWrapMode.NoWrap)
        self.text.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.files.currentTextChanged.connect(self._show)
        count = len(code.files)
        what, them = ("this file", "it") if count == 1 else (f"these {count} files", "them")
        words = f"I have reviewed {what} and trust {them} to run on my computer"
        self.tick = QCheckBox(words, self)
        self.tick.setObjectName("looked")
        self._buttons = QDialogButtonBox(self)
        self.trust_button = self._buttons.addButton(
            "Trust This Code", QDialogButtonBox.ButtonRole.AcceptRole
        )
        self.trust_button.setObjectName("trust")
        self.trust_button.setEnabled(False)
        cancel = self._buttons.addButton(QDialogButtonBox.StandardButton.Cancel)
        cancel.setDefault(True)
        self.tick.toggled.connect(self.trust_button.setEnabled)
        self._buttons.accepted.connect(self.accept)
        self._buttons.rejected.connect(self.reject)
        self._arrange()
        self.files.setCurrentRow(0)

    def _arrange(self) -> None:
        measure = self.fontMetrics()
        digit = measure.horizontalAdvance("0")
        self.files.setMaximumWidth(digit * _LIST_IN_DIGITS)
        middle = QHBoxLayout()
        middle.addWidget(self.files)
        middle.addWidget(self.text, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(16, 16, 16, 14)
        column.setSpacing(10)
        column.addWidget(self._sentence)
        column.addWidget(self._hint)
        column.addLayout(middle, 1)
        column.addWidget(self.tick)
        column.addWidget(self._buttons)
        resize_on_screen(self, digit * _WIDTH_IN_DIGITS, measure.height() * _HEIGHT_IN_LINES)
        self.text.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def _show(self, name: str) -> None:
        try:
            self.text.setPlainText(self._code.text(name))
        except OSError as error:
            self.text.setPlainText(f"{name} cannot be read: {error.strerror or error}")
