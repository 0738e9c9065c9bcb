"""A button that leads to the installation of an optional package, wherever it is missing.

It opens an address of the scheme ``install``, which the window handles; nothing is installed before the user agrees in
the dialog.
"""

from __future__ import annotations

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices
from PySide6.QtWidgets import QPushButton, QWidget

from studio.system.optional_packages import OptionalPackage
from ui.style import icons

SCHEME = "install"


def open_install(package: OptionalPackage) -> None:
    """Ask the window for the installation of a package."""
    QDesktopServices.openUrl(QUrl(f"{SCHEME}:{package.id}"))


class InstallButton(QPushButton):
    """“Install llama.cpp (102 MB)…”"""

    def __init__(self, package: OptionalPackage, parent: QWidget | None = None) -> None:
        super().__init__(package.button, parent)
        self.package = package
        self.setObjectName(f"install:{package.id}")
        self.setAutoDefault(False)
        icons.put(self, "download")
        self.clicked.connect(lambda: open_install(package))
