"""One change refreshes the rows that depend on it and no others: counted, not timed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from studio.errors import Problem
from studio.graph.document import Document
from studio.graph.edits import set_setting
from ui.inspector.panel import InspectorPanel
from ui.inspector.row import FieldRow


@pytest.fixture
def refreshed(panel: InspectorPanel, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the rows that were described or enabled again, in order."""
    del panel  # the panel is built before anything is counted
    seen: list[str] = []
    for name in ("_describe", "_apply_enabled", "_show_reset"):
        monkeypatch.setattr(FieldRow, name, _counted(getattr(FieldRow, name), seen))
    return seen


def _counted(real: Callable[[FieldRow], None], seen: list[str]) -> Callable[[FieldRow], None]:
    def counted(row: FieldRow) -> None:
        seen.append(row.path)
        real(row)

    return counted


def test_a_step_refreshes_its_own_row(field: Any, settings: Any, refreshed: list[str]) -> None:
    field("r").stepBy(1)
    assert settings() == {"r": 32}
    assert set(refreshed) == {"r"}


def test_a_condition_refreshes_the_field_that_depends_on_it(
    field: Any, refreshed: list[str]
) -> None:
    field("max_steps").stepBy(1)
    assert set(refreshed) == {"max_steps", "epochs"}
    assert not field("epochs").isEnabled()


def test_an_edit_from_elsewhere_reaches_its_row(
    document: Document, field: Any, refreshed: list[str]
) -> None:
    document.edit(set_setting(document.graph, "toy", "count", 6), "Change Count")
    assert field("count").value() == 6
    assert set(refreshed) == {"count"}
    document.undo()
    assert field("count").value() == 4
    assert set(refreshed) == {"count"}


def test_only_rows_whose_problems_changed(panel: InspectorPanel, refreshed: list[str]) -> None:
    problem = Problem("Toy: File is missing.", "toy", "source", "Choose one.")
    panel.set_problems([problem])
    assert set(refreshed) == {"source"}
    refreshed.clear()
    panel.set_problems([problem])
    assert refreshed == []
    panel.set_problems([])
    assert set(refreshed) == {"source"}
