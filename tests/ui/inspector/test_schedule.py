"""The picture of the learning rate schedule: it shows what training does, and follows what shapes it."""

from __future__ import annotations

from typing import Any

import pytest
from PySide6.QtWidgets import QWidget

from studio.graph.document import Document
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.registry import load_registry
from studio.node_settings.schedules import rate_factor
from studio.node_settings.train import TrainSettings
from ui.inspector.editors.schedule import UNKNOWN_STEPS, SchedulePicture
from ui.inspector.panel import InspectorPanel


@pytest.fixture
def document() -> Document:
    """One Train node."""
    node = Node("train", "train", {"max_steps": 200, "warmup_ratio": 0.1})
    return Document(Graph("Schedules", (node,)))


@pytest.fixture
def panel(qtbot: Any, document: Document) -> InspectorPanel:
    """The inspector on the Train node."""
    made = InspectorPanel(document, load_registry())
    qtbot.addWidget(made)
    made.resize(320, 700)
    made.show()
    made.show_nodes(("train",))
    return made


def picture_in(panel: QWidget) -> SchedulePicture:
    """The picture that is shown."""
    (found,) = panel.findChildren(SchedulePicture)
    return found


def test_it_draws_the_rates_that_training_uses(panel: InspectorPanel) -> None:
    settings = TrainSettings(max_steps=200, warmup_ratio=0.1)
    points = dict(picture_in(panel).points)
    assert set(points) == set(range(200))
    assert points == {step: rate_factor(settings, step, 200) for step in range(200)}
    assert points[20] == 1.0


def test_it_is_described_in_words(panel: InspectorPanel, document: Document) -> None:
    picture = picture_in(panel)
    assert picture.accessibleName() == "Learning rate over the run"
    assert "Rises to 2e-4 in the first 20 of 200 steps" in picture.accessibleDescription()
    document.edit(set_setting(document.graph, "train", "warmup_ratio", 0.0), "x")
    assert picture.accessibleDescription().startswith("Starts at 2e-4")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 1e-3),
        ("lr_scheduler", "constant"),
        ("warmup_ratio", 0.5),
        ("warmup_steps", 50),
        ("max_steps", 100),
    ],
)
def test_it_follows_the_settings_that_shape_it(
    panel: InspectorPanel, document: Document, name: str, value: Any
) -> None:
    picture = picture_in(panel)
    before = (picture.points, picture.accessibleDescription())
    document.edit(set_setting(document.graph, "train", name, value), "x")
    assert (picture.points, picture.accessibleDescription()) != before


def test_other_settings_leave_it_alone(panel: InspectorPanel, document: Document) -> None:
    picture = picture_in(panel)
    before = picture.points
    document.edit(set_setting(document.graph, "train", "batch_size", 2), "x")
    assert picture.points is before


def test_it_hides_while_a_setting_is_not_valid(panel: InspectorPanel, document: Document) -> None:
    document.edit(set_setting(document.graph, "train", "learning_rate", -1.0), "x")
    assert picture_in(panel).isHidden()
    document.undo()
    assert picture_in(panel).isVisible()


def test_without_a_known_length_it_shows_shares_of_the_run(
    panel: InspectorPanel, document: Document
) -> None:
    document.edit(set_setting(document.graph, "train", "max_steps", 0), "x")
    picture = picture_in(panel)
    assert picture.steps == UNKNOWN_STEPS
    assert "in the first 10 % of the run" in picture.accessibleDescription()
    picture.set_steps(60)
    assert picture.steps == 60
    assert "6 of 60 steps" in picture.accessibleDescription()
