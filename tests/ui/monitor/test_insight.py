"""The insight tab: cells, read-out, slider, advice."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtTest import QTest

from studio.events import event
from studio.runs.insight import Insight, ModuleUse
from studio.runs.state import RunState
from ui.monitor.insight import DIRECTIONS, EMPTY_TEXT, SIZE, InsightPanel, grid_of


def insight(step: int, used: int = 5, scale: float = 1.0) -> Insight:
    """Three layers with two parts each; layer 2 moves most."""
    return Insight(
        step,
        tuple(
            ModuleUse(f"model.layers.{n}.{part}", scale * (n + 1), scale * (n + 1) / 100, used, 16)
            for n in range(3)
            for part in ("self_attn.q_proj", "mlp.up_proj")
        ),
    )


def state_with(*steps: int) -> RunState:
    state = RunState()
    for step in steps:
        state.apply(event("Insight", "train", **insight(step, scale=float(step)).to_json()))
    return state


@pytest.fixture
def panel(qtbot: Any) -> InsightPanel:
    panel = InsightPanel()
    qtbot.addWidget(panel)
    panel.resize(900, 260)
    panel.show()
    return panel


def test_empty_says_what_will_be_here(panel: InsightPanel) -> None:
    """Without a run, and with one that trains no adapter."""
    for state in (None, RunState()):
        panel.show_state(state)
        assert panel._stack.currentWidget().text() == EMPTY_TEXT


def test_layers_go_across_and_parts_down() -> None:
    """The strongest colour is the largest change; directions are told against the rank."""
    rows, columns, cells = grid_of(insight(10), SIZE)
    assert (rows, columns) == (["q_proj", "up_proj"], ["0", "1", "2"])
    assert [c.value for c in cells[0] if c] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert [c.text for c in cells[0] if c] == ["1.0", "2.0", "3.0"]
    _, _, cells = grid_of(insight(10), DIRECTIONS)
    assert {c.text for row in cells for c in row if c} == {"5"}
    assert cells[0][0] is not None
    assert cells[0][0].value == pytest.approx(5 / 16)


def test_the_mouse_reads_a_cell(panel: InsightPanel, qtbot: Any) -> None:
    """Name, norm, share and directions of the layer under it."""
    panel.show_state(state_with(10))
    place = panel.map.place_of(1, 2).center().toPoint()
    QTest.mouseMove(panel.map, QPoint(1, 1))
    QTest.mouseMove(panel.map, place)
    qtbot.waitUntil(lambda: "model.layers.2.mlp.up_proj" in panel.read_out.text())
    assert "5 of 16 singular directions" in panel.read_out.text()


def test_the_slider_goes_back_and_follows(panel: InsightPanel) -> None:
    """At its end it follows the run; moved back, it stays there."""
    state = state_with(10, 20)
    panel.show_state(state)
    assert panel.step.text() == "20"
    state.apply(event("Insight", "train", **insight(30).to_json()))
    panel.refresh()
    assert panel.step.text() == "30"
    panel.slider.setFocus()
    QTest.keyClick(panel.slider, Qt.Key.Key_Home)
    assert panel.step.text() == "10"
    state.apply(event("Insight", "train", **insight(40).to_json()))
    panel.refresh()
    assert panel.step.text() == "10"


def test_advice_is_shown(panel: InsightPanel) -> None:
    """What the figures of the shown step support."""
    panel.show_state(state_with(10))
    assert "5 of 16 singular directions" in panel.advice.text()
    assert "rank of 8" in panel.advice.text()


def test_a_step_told_again_replaces_what_came_after() -> None:
    """A resumed run goes over the same steps once more."""
    state = state_with(10, 20, 30, 20)
    assert [i.step for i in state.insights] == [10, 20]
