"""The table of the parity check in Results."""

from __future__ import annotations

from typing import Any

from pytestqt.qtbot import QtBot

from studio.events import event
from studio.export_folder.parity import Check
from studio.runs.state import RunState
from ui.monitor.results import ResultsPanel


def shown(panel: ResultsPanel) -> list[list[str]]:
    table = panel.checks
    rows, columns = range(table.rowCount()), range(table.columnCount())
    return [[item.text() if (item := table.item(r, c)) else "" for c in columns] for r in rows]


def test_a_row_for_each_file_with_its_cause(qtbot: QtBot) -> None:
    panel = ResultsPanel()
    qtbot.addWidget(panel)
    state = RunState()
    panel.show_state(state)
    assert panel.checks.isHidden()
    numbers: dict[str, Any] = {"kl_mean": 0.002, "gain_kept": 0.97, "bytes": 145_000_000}
    small = Check("b.gguf", "Q4_0", "llama.cpp", "red", "Too few bits.", "Use Q8_0.", kl_mean=3.0)
    for check in (Check("a.gguf", "Q8_0", "llama.cpp", "green", **numbers), small):
        state.apply(event("ExportChecked", "gguf", **check.to_json()))
    panel.refresh()
    first, second = shown(panel)
    assert not panel.checks.isHidden()
    assert first[:5] == ["Q8_0 in llama.cpp", "✓ proven", "97 %", "-", "145.0 MB"]
    assert first[-1] == ""
    assert (second[1], second[-1]) == ("✕ failed", "Too few bits. Use Q8_0.")
    rules = (
        {"program": "vLLM", "loads": False, "why": "DoRA is not supported", "hint": "Merge it."},
        {"program": "llama.cpp", "loads": True, "why": "", "hint": ""},
    )
    adapter = Check("", "Adapter", "peft", "green", rules=rules)
    state.apply(event("ExportChecked", "gguf", **adapter.to_json()))
    panel.refresh()
    proven, refused, met = shown(panel)[2:]
    assert proven[:2] == ["Adapter in PEFT", "✓ proven"]
    assert refused[:2] == ["Adapter in vLLM", "! refused"]
    assert (refused[-1], met[:2]) == (
        "DoRA is not supported. Merge it.",
        ["Adapter in llama.cpp", "✓ rules met"],
    )
    assert state.checks[-1]["verdict"] == "green"  # of the run: a refusal of vLLM is no failure
    head = panel.checks.horizontalHeader()
    assert head.visualIndex(len(first) - 1) == 2  # in view also in a narrow window
    assert panel.checks.columnWidth(len(first) - 1) > 100
    panel.show_state(None)
    assert panel.checks.isHidden()
