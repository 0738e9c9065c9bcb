"""Notifications of the system: for a window that is not looked at."""

from __future__ import annotations

import pytest
from PySide6.QtWidgets import QApplication, QMainWindow
from pytestqt.qtbot import QtBot

from ui.window.notify import Notifier


@pytest.mark.parametrize("active", [True, False])
def test_only_a_window_in_the_background_asks_for_attention(
    active: bool, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    asked: list[QMainWindow] = []
    monkeypatch.setattr(window, "isActiveWindow", lambda: active)
    monkeypatch.setattr(QApplication, "alert", asked.append)
    notifier = Notifier(window)
    notifier.notify("Training", "It has ended.")
    notifier.close()
    assert asked == ([] if active else [window])
