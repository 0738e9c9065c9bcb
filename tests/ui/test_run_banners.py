"""What the window offers when memory runs out or a loss is not a number."""

from __future__ import annotations

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from studio.events import event
from studio.export_folder.parity import Check
from tests.ui import toys
from tests.ui.conftest import MakeSession
from ui.dialogs.rows_dialog import RowsDialog
from ui.window.main_window import CURVES, LOG

LEFT = Qt.MouseButton.LeftButton


def test_memory_that_ran_out_is_told_while_the_run_goes_on(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=2000, delay_s=0.01, recover_at=3))
    window = session.window
    window.own["run"].trigger()
    window.show_tab(LOG)
    qtbot.waitUntil(lambda: window.banner.text().startswith("Out of memory"))
    assert "in step 3: training continues with batch size 2" in window.banner.text()
    assert "4 accumulation steps" in window.banner.text()
    assert session.runs.phase == "running"
    assert not window.samples.now.isEnabled()  # no model is trained: nobody could answer
    qtbot.mouseClick(window.banner.button("Show Curves"), LEFT)
    assert window.tabs.currentIndex() == CURVES
    window.own["stop"].trigger()
    qtbot.waitUntil(lambda: session.runs.phase == "idle")


def test_the_rows_of_a_step_without_numbers_are_shown(
    make_session: MakeSession, qtbot: QtBot
) -> None:
    session = make_session(toys.toy_graph(steps=9, nan_at=4))
    window = session.window
    window.own["run"].trigger()
    qtbot.waitUntil(lambda: "not a number" in window.banner.text())
    qtbot.mouseClick(window.banner.button("Show Rows"), LEFT)
    (dialog,) = window.findChildren(RowsDialog)
    assert dialog.isVisible()
    row = dialog.list.topLevelItem(0)
    assert [row.text(n) for n in range(3)] == ["talk.jsonl", "7", "odd row"]
    dialog.accept()


def test_a_failed_check_is_no_success_in_any_place(
    make_session: MakeSession, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Status bar and notification say the same as banner, header and list of runs."""
    session = make_session(toys.toy_graph(steps=3))
    session.window.own["run"].trigger()
    qtbot.waitUntil(lambda: session.window.banner.key == "ended")
    told: list[str] = []
    monkeypatch.setattr(session.notifier, "notify", lambda title, text: told.append(title))
    live = session.runs.live
    assert live is not None
    unfit = Check("x.gguf", "Q4_0", "llama.cpp", "red", "Too few bits.", "Use Q8_0.")
    live.state.apply(event("ExportChecked", "toy", **unfit.to_json()))
    session.runs.run_ended.emit(live)
    assert told == ["Run completed, export failed"]
    assert session.window.status.currentMessage() == "Run completed, export failed."
    assert "but an export failed the check" in session.window.banner.text()
