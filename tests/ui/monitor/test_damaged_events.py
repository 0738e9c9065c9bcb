"""Panels show runs whose events have absurd fields, long texts and control characters."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from studio.events import EVENTS, Event, from_line
from studio.runs.state import RunState
from tests.damaged import FIELDS, VALUES
from tests.ui.monitor import fake_run
from ui.monitor.insight import InsightPanel
from ui.monitor.log import LogPanel
from ui.monitor.panel import MonitorPanel
from ui.monitor.results import ResultsPanel
from ui.monitor.samples import SamplesPanel


def absurd(value: object) -> list[Event]:
    """Every event with this value in every field."""
    made = [
        json.dumps(
            {"event": name, "time": fake_run.START, "node": "train", **dict.fromkeys(FIELDS, value)}
        )
        for name in EVENTS
    ]
    return [e for e in map(from_line, made) if e is not None]


def test_absurd_fields_are_shown_without_an_error(qtbot: QtBot, tmp_path: Path) -> None:
    """Every kind of value, among the events of a sound run."""
    panels = (MonitorPanel(), ResultsPanel(), SamplesPanel(), InsightPanel())
    log = LogPanel()
    for panel in (*panels, log):
        qtbot.addWidget(panel)
        panel.resize(800, 500)
        panel.show()
    log.level.setCurrentIndex(0)
    for value in VALUES:
        events = [*fake_run.whole_run(tmp_path, 20), *absurd(value)]
        state = RunState()
        for event in events:
            state.apply(event)
        for panel in panels:
            panel.show_state(state)
            QApplication.processEvents()
        log.add_events(events)
        assert math.isfinite(state.last_time)
    assert log.lines()


@pytest.mark.parametrize(
    "example",
    [
        *({"cut": value} for value in VALUES if not isinstance(value, list)),
        *({"right": value} for value in VALUES if not isinstance(value, list)),
        {"right": [[1]], "cut": [{}, None]},
        {"prompt": [1], "expected": {"x": 2}, "before": 5, "after": None},
    ],
    ids=repr,
)
def test_an_evaluation_with_damaged_rows_shows_its_measures(
    qtbot: QtBot, example: dict[str, object]
) -> None:
    measures = {"exact_match": {"before": math.inf, "after": 0.5}}
    row = {"prompt": "a", "expected": "b", "before": "c", "after": "d", **example}
    data = {"event": "Evaluation", "time": 5.0, "node": "a", "examples": [row]}
    found = from_line(json.dumps({**data, "measures": measures}).encode())
    assert found is not None
    panel, state = ResultsPanel(), RunState()
    qtbot.addWidget(panel)
    state.apply(found)
    panel.show_state(state)
    assert panel.bars.text() == "Exact match: – before, 50 % after"
    assert panel.examples.rowCount() == len(found.get("examples", []))


@pytest.mark.parametrize(
    "text", ["\x1b[2J\x00\x07", "\u202egnp.exe", "a\nRun completed.", "x" * 10**6]
)
def test_the_log_shows_one_short_line_per_event(qtbot: QtBot, text: str) -> None:
    log = LogPanel()
    qtbot.addWidget(log)
    log.level.setCurrentIndex(0)
    log.add_events([Event("Notice", 1.0, None, {"sentence": text, "level": "warning"})])
    (shown,) = log.lines()
    assert shown.isprintable()
    assert len(shown) < 5000
