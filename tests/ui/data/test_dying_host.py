"""A data host that dies over the same rows each time is not started for ever."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from tests.ui.data import dying_host
from tests.ui.data.conftest import OpenSession, chats, show
from ui.data.controller import MOST_RESTARTS
from ui.data.tabs import TOKENS


def test_a_host_that_dies_again_and_again_is_told(
    open_session: OpenSession, qtbot: QtBot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = tmp_path / "starts"
    monkeypatch.setenv("DYING_HOST", str(starts))
    monkeypatch.setattr("studio.preview.client.MODULE", dying_host.__name__)
    session = open_session(chats(3))
    page = show(session, "train", TOKENS)
    qtbot.waitUntil(lambda: session.data.state == "failed")
    assert page.state.sentence.text().startswith("The helper process that reads the data exited")
    assert "no memory left" in page.state.hint.text()
    assert starts.read_text(encoding="utf-8").count("started") == 1 + MOST_RESTARTS

    QTest.mouseClick(page.state.button, Qt.MouseButton.LeftButton)  # Try again
    tried = lambda: starts.read_text(encoding="utf-8").count("started")  # noqa: E731
    qtbot.waitUntil(lambda: tried() == 2 * (1 + MOST_RESTARTS))
    qtbot.waitUntil(lambda: session.data.state == "failed")
    qtbot.wait(300)
    assert tried() == 2 * (1 + MOST_RESTARTS)
