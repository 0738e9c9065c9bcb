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


LONG_FIRST = ("test_window", "test_first_mile", "test_terminal", "test_progress")
"""Modules that take minutes. What is left when one process has nothing more to do should be short."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the tests of these modules to the front."""
    items.sort(
        key=lambda item: LONG_FIRST.index(item.path.stem) if _is_long(item) else len(LONG_FIRST)
    )


def _is_long(item: pytest.Item) -> bool:
    return item.path.stem in LONG_FIRST and item.path.parent.name == "e2e"


@pytest.fixture
def open_window(
    qtbot: QtBot, qapp: QApplication, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Open]:
    """Opens the window on a project, with settings of its own; closes it at the end."""
    from tests.e2e.window import windows  # not Qt in the tests of the terminal

    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    with windows(qtbot, qapp) as opened:
        yield opened
