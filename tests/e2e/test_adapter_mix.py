"""Two received adapters are mixed: wired and weighted in the window, and run in the terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PySide6.QtCore import QPoint, QPointF
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QLabel, QTableWidget, QWidget
from pytestqt.qtbot import QtBot
from safetensors.torch import load_file, save_file

from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.runs.folder import list_runs
from tests.e2e.studio_cli import ROOT, studio, write_rows
from tests.e2e.window import Open, click_node, press, type_setting
from tests.timing import WAIT_MS
from tests.tiny import make_tiny_model
from tests.ui.canvas.hands import drag, port

ADAPTER = ROOT / "tests" / "fixtures" / "adapters" / "peft-0.13"


def project(path: Path, wired: bool, **settings: object) -> Path:
    """A base, two loaded adapters, a dataset with validation rows, Adapter Mix, and Export."""
    mix = {"points": 3, **settings}
    nodes = [
        {
            "id": "data",
            "type": "dataset",
            "settings": {"source": "rows.jsonl"},
            "position": [0, 400],
        },
        {
            "id": "base",
            "type": "base_model",
            "settings": {"model": "model", "dtype": "float32"},
            "position": [0, 0],
        },
        {
            "id": "one",
            "type": "load_adapter",
            "title": "Polite",
            "settings": {"adapter": "one"},
            "position": [260, 0],
        },
        {
            "id": "two",
            "type": "load_adapter",
            "title": "Brief",
            "settings": {"adapter": "two"},
            "position": [260, 200],
        },
        {"id": "mix", "type": "adapter_mix", "settings": mix, "position": [540, 100]},
        {"id": "share", "type": "export", "settings": {"folder": "out"}, "position": [800, 100]},
    ]
    wires = [
        ("base.model", "one.model"),
        ("base.model", "two.model"),
        ("data.dataset", "mix.dataset"),
        ("mix.adapter", "share.model"),
    ]
    if wired:
        wires += [("one.adapter", "mix.a"), ("two.adapter", "mix.b")]
    data = {
        "format": "lora-studio",
        "version": 3,
        "name": "Mixed",
        "nodes": nodes,
        "wires": [{"from": a, "to": b} for a, b in wires],
    }
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def prepare(root: Path) -> None:
    """The model, two different adapters, and rows."""
    make_tiny_model(root / "model")
    write_rows(root / "rows.jsonl")
    for name, factor in (("one", 1.0), ("two", -2.0)):
        shutil.copytree(ADAPTER, root / name)
        file = root / name / "adapter_model.safetensors"
        tensors = {n: factor * t if ".lora_B" in n else t for n, t in load_file(file).items()}
        save_file(tensors, file, metadata={"format": "pt"})


def test_problems_before_the_run(tmp_path: Path) -> None:
    prepare(tmp_path)

    def codes(**settings: object) -> list[tuple[str | None, str]]:
        path = project(tmp_path / "a.studio", True, **settings)
        return [
            (p.node, p.code) for p in find_problems(load_project(path), load_registry(), tmp_path)
        ]

    assert codes() == []
    assert codes(weight_a=0.0, weight_b=0.0) == [("mix", "no_mix_weight")]
    assert codes(choose="best") == []
    path = project(tmp_path / "a.studio", True, choose="best")
    data = json.loads(path.read_text(encoding="utf-8"))
    data["wires"] = [w for w in data["wires"] if w["to"] != "mix.dataset"]
    shutil.copytree(tmp_path / "model", tmp_path / "another")
    data["nodes"].append(
        {"id": "base2", "type": "base_model", "settings": {"model": "another", "dtype": "float32"}}
    )
    next(w for w in data["wires"] if w["to"] == "two.model")["from"] = "base2.model"
    path.write_text(json.dumps(data), encoding="utf-8")
    found = [
        p for p in find_problems(load_project(path), load_registry(), tmp_path) if p.node == "mix"
    ]
    assert {p.code for p in found} == {"mix_without_rows", "other_mix_base"}
    assert any("another and model" in p.sentence for p in found)


@pytest.mark.slow(seconds=25)
def test_mixed_in_the_terminal(tmp_path: Path) -> None:
    """The table is printed, and the card of the export names both sources."""
    prepare(tmp_path)
    path = project(tmp_path / "mix.studio", True, weight_a=0.5, weight_b=0.25)
    done = studio("run", str(path), "--runs", str(tmp_path / "runs"))
    assert done.code == 0, done.err
    assert "Adapter Mix: Adapters" in done.out
    assert "cosine with Polite" in done.out
    assert "-1.00" in done.out  # one is the opposite of the other
    assert "lowest loss" in done.out
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "combined from 2" in card
    assert "| Polite | 0.5 | 50.0 % | 1.00 | -1.00 |" in card
    assert "from one" in card
    again = studio("run", str(path), "--runs", str(tmp_path / "runs"))  # reused, and still reported
    assert "cosine with Polite" in again.out


def test_two_adapters_are_wired_and_weighted_in_the_window(
    tmp_path: Path, qtbot: QtBot, open_window: Open
) -> None:
    """Wires by mouse, weights by keyboard under the titles of their nodes; the results show the table."""
    prepare(tmp_path)
    session = open_window(project(tmp_path / "mix.studio", False))
    canvas = session.window.canvas
    canvas.zoom_to(1.0)
    canvas.centerOn(canvas.graph_scene.nodes["two"].scenePos() + QPointF(200, -50))
    for source, target in (("one", "mix.a"), ("two", "mix.b")):
        drag(canvas, port(canvas, f"{source}.adapter", "output"), port(canvas, target, "input"))
    into = {w.target_port: w.source for w in session.document.graph.wires_into("mix")}
    assert into == {"a": "one", "b": "two", "dataset": "data"}
    type_setting(session, qtbot, "mix", "weight_a", "0.5")
    type_setting(session, qtbot, "mix", "weight_b", "-0.25")
    labels = [w.text() for w in session.window.inspector.findChildren(QLabel) if w.isVisible()]
    assert {"Weight of Polite", "Weight of Brief"} <= set(labels)
    field = session.window.inspector.findChild(QWidget, "field:weight_b")
    assert field is not None
    assert field.accessibleName() == "Weight of Brief"
    click_node(session, "mix")
    press(session, "run")
    qtbot.waitUntil(lambda: session.runs.phase == "running", timeout=WAIT_MS)
    qtbot.waitUntil(lambda: session.runs.phase == "idle", timeout=WAIT_MS)
    (run,) = list_runs(session.runs.runs_dir)
    assert run.status() == "completed"
    tables = session.window.results.mixtures.findChildren(QTableWidget)
    texts = [
        [[t.item(r, c).text() for c in range(t.columnCount())] for r in range(t.rowCount())]
        for t in tables
    ]
    assert texts[0][0][:2] == ["Polite", "0.5"]
    assert texts[0][1][:2] == ["Brief", "-0.25"]
    marked = [row for row in texts[1] if "lowest loss" in row[-1]]
    assert len(marked) == 1
    assert any("used" in row[-1] and row[:2] == ["0.5", "-0.25"] for row in texts[1])
    QTest.mouseMove(tables[0], QPoint(4, 4))
