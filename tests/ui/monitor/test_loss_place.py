"""Where the loss is drawn: a kept training and a run without one say why there is no curve."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from pytestqt.qtbot import QtBot

from studio.events import Event
from studio.runs.state import RunState
from tests.ui.monitor import fake_run
from ui.monitor.loss_place import NOT_TRAINED
from ui.monitor.panel import MonitorPanel

START = fake_run.START


@pytest.fixture
def panel(qtbot: QtBot) -> MonitorPanel:
    made = MonitorPanel()
    qtbot.addWidget(made)
    made.resize(1000, 260)
    made.show()
    qtbot.waitExposed(made)
    return made


def kept_from(folder: Path, *more: Event) -> RunState:
    """A run whose adapter lies in another run's folder."""
    folder.mkdir(parents=True)
    (folder / "events.jsonl").write_text(
        "".join(e.to_line() for e in fake_run.beginning()), encoding="utf-8"
    )
    adapter = folder / "artifacts" / "train-1" / "adapter"
    state = RunState()
    for event in (
        *fake_run.beginning(),
        Event(
            "ArtifactSaved",
            START,
            "train",
            {"kind": "adapter", "path": str(adapter), "cached": True},
        ),
        Event("StepFinished", START, "train", {"seconds": 0.0, "cached": True, "outputs": {}}),
        *more,
    ):
        state.apply(event)
    return state


def test_a_kept_training_offers_the_curves_it_came_from(
    panel: MonitorPanel, qtbot: QtBot, tmp_path: Path
) -> None:
    source = tmp_path / "20231114-221320-starter"
    panel.show_state(kept_from(source))
    place = panel._loss_place
    assert not panel.loss.isVisible()
    assert place.text.text().startswith("Train was unchanged. Its result comes from the run of")
    with qtbot.waitSignal(panel.run_wanted) as caught:
        qtbot.mouseClick(place.button, Qt.MouseButton.LeftButton)
    assert caught.args[0].path == source


def test_a_run_that_ended_without_training_says_so(panel: MonitorPanel) -> None:
    state = RunState()
    for event in fake_run.beginning():
        state.apply(event)
    panel.show_state(state)
    assert panel.loss.isVisible()
    state.apply(Event("RunFinished", START + 3, None, {"status": "stopped"}))
    panel.draw_now()
    assert not panel.loss.isVisible()
    assert panel._loss_place.text.text() == NOT_TRAINED
    assert not panel._loss_place.button.isVisible()


def test_a_training_of_its_own_is_drawn(panel: MonitorPanel, tmp_path: Path) -> None:
    panel.show_state(kept_from(tmp_path / "other", *fake_run.training(1, 5, 20)))
    assert panel.loss.isVisible()


def test_where_one_small_plot_fits_it_is_memory(panel: MonitorPanel) -> None:
    state = RunState()
    for event in (*fake_run.beginning(), *fake_run.training(1, 5, 20)):
        state.apply(event)
    panel.show_state(state)
    assert panel.plot("memory").isVisible()
    assert not panel.plot("learning_rate").isVisible()
