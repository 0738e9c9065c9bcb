"""Installs an optional package: says what is downloaded, its size and where it goes; then progress, Stop, and the end.

It blocks nothing: a run goes on, and may be started, meanwhile.
"""

from __future__ import annotations

import sys

from PySide6.QtCore import Signal, Slot
from PySide6.QtGui import QFont
from PySide6.QtWidgets import QDialog, QHBoxLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from studio.errors import StudioError
from studio.system import pip_install
from studio.system.optional_packages import OptionalPackage
from ui.style.widgets import MutedLabel, TextLabel, fit
from workers.installing import Installing

_WIDTH_IN_DIGITS = 58


class InstallDialog(QDialog):
    """One package. ``installed`` carries the sentence about the result."""

    installed = Signal(object)

    def __init__(self, package: OptionalPackage, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.package = package
        self.setWindowTitle(f"Install {package.title}")
        self.setAccessibleName(self.windowTitle())
        self._work = Installing(package, self)
        self._work.progress.connect(self._show_progress)
        self._work.done.connect(self._done)
        self._work.failed.connect(self._failed)
        self._work.stopped.connect(self._stopped)
        self.sentence = TextLabel("", self)
        font = self.sentence.font()
        font.setWeight(QFont.Weight.DemiBold)
        self.sentence.setFont(font)
        self.detail = MutedLabel("", self)
        self.bar = QProgressBar(self)
        self.bar.setAccessibleName("Progress of the installation")
        self.bar.setTextVisible(False)
        self.bar.hide()
        self.install_button = QPushButton("Install", self)
        self.install_button.setObjectName("install")
        self.install_button.setDefault(True)
        self.install_button.clicked.connect(self.start)
        self.close_button = QPushButton("Cancel", self)
        self.close_button.setObjectName("close")
        self.close_button.clicked.connect(self.reject)
        buttons = QHBoxLayout()
        buttons.addStretch(1)
        buttons.addWidget(self.close_button)
        buttons.addWidget(self.install_button)
        column = QVBoxLayout(self)
        column.setContentsMargins(18, 18, 18, 14)
        column.setSpacing(10)
        column.addWidget(self.sentence)
        column.addWidget(self.detail)
        column.addStretch(1)
        column.addWidget(self.bar)
        column.addLayout(buttons)
        self._offer()
        fit(self, column, _WIDTH_IN_DIGITS)

    @property
    def busy(self) -> bool:
        """Whether it is installing."""
        return self._work.busy

    def _offer(self) -> None:
        package = self.package
        why = pip_install.refusal(package)
        if why:
            self._say(f"{package.title} cannot be installed from here.", why)
            self.install_button.hide()
            self.close_button.setText("Close")
            return
        self._say(
            f"{package.title} is not installed. {package.without}",
            f"{package.name} is downloaded from the package index that pip is set up for ({package.download_mb} MB; "
            f"{package.disk_mb} MB on disk) and installed into the Python that runs this program: {sys.executable}. "
            "Nothing else is changed.",
        )

    def _say(self, sentence: str, detail: str = "") -> None:
        self.sentence.setText(sentence)
        self.detail.setText(detail)
        self.setAccessibleDescription(f"{sentence} {detail}".strip())

    @Slot()
    def start(self) -> None:
        """Begin."""
        if self._work.busy:
            return
        self._say(f"Downloading {self.package.title}")
        self.bar.setRange(0, 0)
        self.bar.show()
        self.install_button.hide()
        self.close_button.setText("Stop")
        self.close_button.setFocus()
        self._work.start()

    @Slot(object, object)
    def _show_progress(self, words: str, share: float | None) -> None:
        if self.sentence.text() != words:
            self._say(words)
        downloading = words.startswith("Downloading")
        self.close_button.setEnabled(downloading)
        self.bar.setRange(0, 1000 if share is not None else 0)
        if share is not None:
            self.bar.setValue(round(1000 * share))
            mb = self.package.download_mb
            self.detail.setText(f"{share * mb:.0f} of {mb} MB")

    @Slot(object)
    def _done(self, sentence: str) -> None:
        self._end("Close")
        self._say(sentence, "It is used from now on; no restart is needed.")
        self.installed.emit(sentence)

    @Slot(object)
    def _failed(self, error: StudioError) -> None:
        self._end("Close")
        self._say(error.sentence, error.hint)
        self._may_try_again()

    @Slot()
    def _stopped(self) -> None:
        self._end("Close")
        self._say("The download was stopped. Nothing was installed.")
        self._may_try_again()

    def _end(self, words: str) -> None:
        self.bar.hide()
        self.close_button.setText(words)
        self.close_button.setEnabled(True)

    def _may_try_again(self) -> None:
        self.install_button.setText("Try Again")
        self.install_button.show()
        self.install_button.setDefault(True)
        self.install_button.setFocus()

    def reject(self) -> None:
        """Qt: Esc, Stop and the cross of the window: stop the download first."""
        if self._work.busy:
            self.stop()
        else:
            super().reject()

    def stop(self) -> None:
        """End the download; what is downloaded completely is still installed."""
        self._work.stop()
        self.close_button.setEnabled(False)
