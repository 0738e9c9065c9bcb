"""The program's window for the end-to-end tests that use one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

    from tests.e2e.window import Open


@pytest.fixture
def open_window(
    qtbot: QtBot, qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Opens the window on a project, with settings of its own; closes it at the end."""
    from tests.e2e.window import windows  # not Qt in the tests of the terminal

    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    with windows(qtbot, qapp) as opened:
        yield opened
