"""A data file that another program changes while its rows are shown."""

from __future__ import annotations

import json
import os
from pathlib import Path

from pytestqt.qtbot import QtBot

from tests.ui.data.conftest import OpenSession, chats, show
from ui.data.tabs import TOKENS


def test_the_rows_are_read_again(open_session: OpenSession, qtbot: QtBot, tmp_path: Path) -> None:
    """It is replaced, as editors do; the rows that are asked for next are the new ones."""
    session = open_session(chats(300))
    page = show(session, "train", TOKENS)
    qtbot.waitUntil(lambda: page.model.rowCount() == 300 and page.model.entry(0) is not None)
    file = tmp_path / "work" / "rows.jsonl"
    new = file.with_name("new")
    new.write_text("".join(json.dumps(row) + "\n" for row in chats(7)), encoding="utf-8")
    os.replace(new, file)
    page.go_to(250)
    qtbot.waitUntil(lambda: page.model.rowCount() == 7 and page.model.entry(0) is not None)
    assert session.data.state == "open"
