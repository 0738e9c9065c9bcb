"""Show a file or folder in the system's file manager.

Windows and macOS select the file; elsewhere its folder opens. Missing files are not opened.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PySide6.QtCore import QUrl
from PySide6.QtGui import QDesktopServices


def reveal(path: Path) -> bool:
    """Open the file manager at ``path``; False if it is missing or nothing could be opened."""
    if not path.exists():
        return False
    if sys.platform == "win32":
        # As one text: Explorer splits its argument at commas, and quotes that Python would set are not enough.
        subprocess.Popen(f'explorer /select,"{path}"')
        return True
    if sys.platform == "darwin":
        subprocess.Popen(["open", "-R", str(path)])
        return True
    folder = path if path.is_dir() else path.parent
    return QDesktopServices.openUrl(QUrl.fromLocalFile(str(folder)))
