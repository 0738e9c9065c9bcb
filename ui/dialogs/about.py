"""The About dialog: name, versions, licence and links. No network, and no torch."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version

import PySide6
from PySide6.QtCore import Qt, qVersion
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import (
    QDialog,
    QDialogButtonBox,
    QGridLayout,
    QLabel,
    QLayout,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio import __version__
from studio.system.paths import config_dir, runs_dir
from ui.style.widgets import MutedLabel, TextLabel, fit

PACKAGES = ("torch", "transformers", "peft", "datasets", "bitsandbytes", "safetensors")
LICENCE = "Apache License 2.0. The icons are Lucide's (ISC). Qt is used under the LGPL."
LINKS = (
    ("PEFT documentation", "https://huggingface.co/docs/peft"),
    ("LoRA paper", "https://arxiv.org/abs/2106.09685"),
)


def versions() -> list[tuple[str, str]]:
    """Names and versions of the main packages, read from their metadata without importing them."""
    rows = [
        ("LoRA Studio", __version__),
        ("Python", platform.python_version()),
        ("Qt", f"{qVersion()} (PySide6 {PySide6.__version__})"),
    ]
    rows += [(name, _version(name)) for name in PACKAGES]
    return [*rows, ("System", platform.platform(terse=True))]


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


class AboutDialog(QDialog):
    """Versions to copy into a report, the licence, and links."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle("About LoRA Studio")
        title = QLabel("LoRA Studio", self)
        font = title.font()
        font.setPointSizeF(font.pointSizeF() * 1.6)
        font.setBold(True)
        title.setFont(font)
        places = [("Runs", str(runs_dir())), ("Settings", str(config_dir()))]
        buttons = QDialogButtonBox(QDialogButtonBox.StandardButton.Close, self)
        buttons.rejected.connect(self.reject)
        self._copy = QPushButton("Copy Versions", self)
        self._copy.setObjectName("copy")
        self._copy.setAutoDefault(False)
        self._copy.clicked.connect(self._copy_versions)
        buttons.addButton(self._copy, QDialogButtonBox.ButtonRole.ActionRole)
        column = QVBoxLayout(self)
        column.setContentsMargins(20, 18, 20, 14)
        column.setSpacing(12)
        column.addWidget(title)
        column.addWidget(TextLabel("Fine-tunes language models on your own computer.", self))
        column.addLayout(self._table([*versions(), *places]))
        column.addWidget(MutedLabel(LICENCE, self))
        column.addWidget(self._links())
        column.addStretch(1)
        column.addWidget(buttons)
        fit(self, column, 58)
        column.setSizeConstraint(
            QLayout.SizeConstraint.SetNoConstraint
        )  # a table of wrapped labels
        self.setMinimumHeight(self.height())  # has a minimum height that is far too large

    def _table(self, rows: Iterable[tuple[str, str]]) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(18)
        grid.setVerticalSpacing(3)
        grid.setColumnStretch(1, 1)
        for place, (name, value) in enumerate(rows):
            title, label = MutedLabel(name, self), TextLabel(value, self)
            for text in (title, label):  # both: selectable text is drawn one pixel higher
                text.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
            grid.addWidget(title, place, 0)
            grid.setColumnMinimumWidth(0, self.fontMetrics().horizontalAdvance("transformers  "))
            grid.addWidget(label, place, 1)
        return grid

    def _links(self) -> QLabel:
        label = QLabel(" · ".join(f'<a href="{url}">{words}</a>' for words, url in LINKS), self)
        label.setOpenExternalLinks(True)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
        label.setAccessibleName("Links")
        return label

    def _copy_versions(self) -> None:
        text = "\n".join(f"{name}: {value}" for name, value in versions())
        QGuiApplication.clipboard().setText(text)
        self._copy.setText("Copied")
