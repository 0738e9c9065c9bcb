"""The dialog for the token of the Hugging Face Hub: where it comes from, and how it gets into the keyring.

The keyring is used on a pool thread, because it may ask the user to unlock it. The token is shown nowhere.
"""

from __future__ import annotations

from collections.abc import Callable

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QLabel,
    QLineEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.errors import StudioError
from studio.system import hub_token
from studio.system.hub_token import Token
from studio.system.optional_packages import KEYRING
from ui.style.install_button import InstallButton
from ui.style.widgets import ErrorLabel, MutedLabel, TextLabel, fit
from workers.task import Task, run_task

Button = QDialogButtonBox.StandardButton
_WIDTH_IN_DIGITS = 62
ABOUT = (
    "Exports are uploaded to the Hugging Face Hub, and private and gated models are downloaded, with an access token. "
    "It is kept in the keyring of the system, and in no file of LoRA Studio."
)


class HubTokenDialog(QDialog):
    """Save stores what was entered, Remove removes what is stored. ``stored`` carries the sentence about it."""

    stored = Signal(str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("Hugging Face Token")
        self._task: Task | None = None
        self._state = MutedLabel("Looking for a token…", self)
        self._error = ErrorLabel("", self)
        self._error.hide()
        self._install = InstallButton(KEYRING, self)
        self._install.setVisible(not KEYRING.is_installed())
        self._line = QLineEdit(self)
        self._line.setEchoMode(QLineEdit.EchoMode.Password)
        self._line.setPlaceholderText("hf_…")
        self._line.setAccessibleName("Token")
        self._line.setMaxLength(4096)
        self._line.textChanged.connect(self._enable)
        link = QLabel(f'<a href="{hub_token.PAGE}">Create a token with write access</a>', self)
        link.setOpenExternalLinks(True)
        link.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        self._buttons = QDialogButtonBox(Button.Save | Button.Close, self)
        self._buttons.accepted.connect(self._save)
        self._buttons.rejected.connect(self.reject)
        self._remove = QPushButton("Remove", self)
        self._remove.setAutoDefault(False)
        self._remove.setEnabled(False)
        self._remove.clicked.connect(self._take_out)
        self._buttons.addButton(self._remove, QDialogButtonBox.ButtonRole.DestructiveRole)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 18, 18, 14)
        column.setSpacing(10)
        column.addWidget(TextLabel(ABOUT, self))
        column.addWidget(self._state)
        column.addWidget(self._line)
        column.addWidget(link)
        column.addWidget(self._error)
        column.addWidget(self._install, 0, Qt.AlignmentFlag.AlignLeft)
        column.addStretch(1)
        column.addWidget(self._buttons)
        fit(self, column, _WIDTH_IN_DIGITS)
        self._enable()
        self._look()

    def done(self, result: int) -> None:
        """Qt: a result of the keyring that comes later is not shown."""
        if self._task is not None:
            self._task.cancel()
        super().done(result)

    def _enable(self) -> None:
        ready = self._task is None and not hub_token.token_fault(self._line.text())
        self._buttons.button(Button.Save).setEnabled(ready)

    def _look(self) -> None:
        self._task = run_task(lambda: (hub_token.find_token(), hub_token.kept_token()), self._found)

    def _found(self, found: tuple[Token | None, str]) -> None:
        self._task = None
        token, kept = found
        self._state.setText(
            f"The token in use comes from {token.source}."
            if token is not None
            else f"There is no token on this computer. One in the environment variable {hub_token.VARIABLE} is used "
            "as well."
        )
        self._remove.setEnabled(bool(kept))
        self._install.setVisible(not KEYRING.is_installed())
        self._enable()

    def _save(self) -> None:
        text = self._line.text()
        self._begin(lambda: hub_token.keep_token(text), "The token was stored in the keyring.")

    def _take_out(self) -> None:
        self._begin(hub_token.remove_token, "The token was removed from the keyring.")

    def _begin(self, work: Callable[[], None], sentence: str) -> None:
        if self._task is not None:
            return
        self._error.hide()

        def finished(result: object) -> None:
            del result
            self._task = None
            self._line.clear()
            self.stored.emit(sentence)
            self._look()

        self._task = run_task(work, finished, self._failed)
        self._remove.setEnabled(False)
        self._enable()

    def _failed(self, error: Exception) -> None:
        self._task = None
        if not isinstance(error, StudioError):
            raise error
        self._error.setText(f"{error.sentence} {error.hint}")
        self._error.show()
        self._look()
