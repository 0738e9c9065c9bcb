"""The samples tab: the grid fills, follows, and is read; questions are asked and their state is shown."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel

from studio.events import Event, event
from studio.runs.samples import Sample
from studio.runs.state import RunState
from ui.monitor.sample_table import cell_text
from ui.monitor.samples import ASKED_TEXT, EMPTY_TEXT, SamplesPanel

LEFT = Qt.MouseButton.LeftButton


def sample(step: int, prompt: str, text: str, **more: Any) -> Event:
    fields = {"step": step, "prompt": prompt, "text": text, "tokens": 3, "seconds": 0.2, **more}
    return event("Sample", "train", **fields)


def state_with(*steps: int) -> RunState:
    state = RunState()
    for step in steps:
        state.apply(sample(step, "What is a robin?", f"A bird, {step}.", expected="A bird, 20."))
        state.apply(sample(step, "Say hello.", "Hello " * 200, cut=True))
    return state


@pytest.fixture
def panel(qtbot: Any) -> SamplesPanel:
    panel = SamplesPanel()
    qtbot.addWidget(panel)
    panel.resize(900, 260)
    panel.show()
    return panel


def test_empty_says_which_setting_to_fill_in(panel: SamplesPanel, qtbot: Any) -> None:
    for state in (None, RunState()):
        panel.show_state(state)
        page = panel._stack.currentWidget()
        assert page.findChild(QLabel).text() == EMPTY_TEXT
    assert "Train node, under Samples" in EMPTY_TEXT
    with qtbot.waitSignal(panel.prompts_wanted):
        QTest.mouseClick(panel.write, LEFT)


def test_the_grid_fills_and_shows_the_newest_step(panel: SamplesPanel) -> None:
    state = state_with(0, 10)
    panel.show_state(state)
    model = panel.table.samples
    shape = lambda: (model.rowCount(), model.columnCount())  # noqa: E731
    assert shape() == (2, 2)
    for step in range(20, 100, 10):
        state.apply(sample(step, "What is a robin?", f"A bird, {step}."))
        panel.add_events([event("Sample", "train")])
    assert shape() == (2, 10)
    newest = panel.table.visualRect(model.index(0, 9))
    assert panel.table.viewport().rect().contains(newest.center())
    titles = [model.headerData(i, Qt.Orientation.Horizontal) for i in (0, 1, 9)]
    assert titles == ["Before training", "Step 10", "Step 90"]


def test_looking_back_stays_where_it_is(panel: SamplesPanel) -> None:
    state = state_with(*range(0, 100, 10))
    panel.show_state(state)
    bar = panel.table.horizontalScrollBar()
    assert bar.value() == bar.maximum() > 0
    bar.setValue(0)
    state.apply(sample(100, "Say hello.", "Hi."))
    panel.refresh()
    assert bar.value() == 0


def test_right_answers_are_told_apart_by_a_sign(panel: SamplesPanel) -> None:
    """A tick, a cross, or nothing where no answer is expected; one that was cut ends in dots."""
    panel.show_state(state_with(10, 20))
    texts = [panel.table.samples.index(0, c).data() for c in (0, 1)]
    assert texts == ["✕  A bird, 10.", "✓  A bird, 20."]
    assert panel.table.samples.index(1, 0).data().endswith("…")
    assert cell_text(Sample("")) == "(empty)"
    assert panel.table.samples.expected(0) == "A bird, 20."


def test_a_click_reads_all_of_it_and_copies(panel: SamplesPanel, qtbot: Any) -> None:
    panel.show_state(state_with(10, 20))
    table = panel.table
    place = table.visualRect(table.samples.index(1, 0)).center()
    QTest.mouseClick(table.viewport(), LEFT, Qt.KeyboardModifier.NoModifier, place)
    assert panel.reader.isVisible()
    text = panel.reader.text.toPlainText()
    assert "Say hello." in text
    assert text.count("Hello") == 200
    assert "truncated at the maximum number of new tokens" in panel.reader._facts.text()
    qtbot.waitUntil(lambda: panel.reader.width() > 200)
    QTest.mouseClick(panel.reader.copy, LEFT)
    assert QGuiApplication.clipboard().text() == "Hello " * 200
    table.setFocus()
    QTest.keyClick(table, Qt.Key.Key_Up)
    assert "Expected\nA bird, 20." in panel.reader.text.toPlainText()
    QTest.keyClick(panel.reader.text, Qt.Key.Key_Escape)
    assert not panel.reader.isVisible()
    QTest.keyClick(table, Qt.Key.Key_Return)
    assert panel.reader.isVisible()


def test_what_is_read_stays_chosen_while_answers_come(panel: SamplesPanel) -> None:
    state = state_with(10, 20)
    panel.show_state(state)
    panel.table.setCurrentIndex(panel.table.samples.index(1, 1))
    state.apply(sample(30, "Say hello.", "Hi."))
    panel.refresh()
    at = panel.table.currentIndex()
    assert (at.row(), at.column()) == (1, 1)


def test_sample_now_asks_and_shows_that_it_waits(panel: SamplesPanel, qtbot: Any) -> None:
    panel.show_state(state_with(10))
    assert not panel.now.isEnabled()
    panel.set_may_ask(True)
    with qtbot.waitSignal(panel.sample_wanted) as asked:
        QTest.mouseClick(panel.now, LEFT)
    assert asked.args == [[]]
    assert not panel.now.isEnabled()
    assert (panel.now.text(), panel.status.text()) == ("Generating…", ASKED_TEXT)
    panel.add_events([sample(12, "Say hello.", "Hi.")])
    assert panel.now.isEnabled()
    QTest.keyClicks(panel.question, "Who are you?")
    with qtbot.waitSignal(panel.sample_wanted) as asked:
        QTest.keyClick(panel.question, Qt.Key.Key_Return)
    assert asked.args == [["Who are you?"]]
    panel.set_may_ask(False)
    assert panel.now.text() == "Sample Now"
