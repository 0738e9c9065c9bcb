"""A base model wired straight into Train: checked, trained, evaluated and exported in the terminal."""

from __future__ import annotations

import json
from pathlib import Path

from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from tests.e2e.studio_cli import studio, write_rows
from tests.tiny import make_tiny_model


def write(path: Path, base: dict[str, object] | None = None, output: str = "model") -> Path:
    """Dataset and Base model into Train, and its result into Export and Evaluate."""
    nodes = [
        {"id": "data", "type": "dataset", "settings": {"source": "rows.jsonl"}},
        {
            "id": "base",
            "type": "base_model",
            "settings": {"model": "model", "dtype": "float32", **(base or {})},
        },
        {"id": "train", "type": "train", "settings": {"max_steps": 4, "learning_rate": 5e-5}},
        {"id": "export", "type": "export", "settings": {"folder": "out"}},
        {"id": "test", "type": "evaluate", "settings": {"rows": 4}},
    ]
    wires = [
        ("data.dataset", "train.dataset"),
        ("base.model", "train.model"),
        (f"train.{output}", "export.model"),
        ("data.dataset", "test.dataset"),
        (f"train.{output}", "test.model"),
    ]
    project = {
        "format": "lora-studio",
        "version": 3,
        "name": "Whole",
        "nodes": nodes,
        "wires": [{"from": a, "to": b} for a, b in wires],
    }
    path.write_text(json.dumps(project), encoding="utf-8")
    return path


def codes(path: Path) -> set[tuple[str | None, str]]:
    """Node and code of every Problem of a project."""
    graph = load_project(path)
    return {(p.node, p.code) for p in find_problems(graph, load_registry(), path.parent)}


def test_wrong_wires_and_settings_are_seen_before_the_run(tmp_path: Path) -> None:
    """No adapter comes out of full fine-tuning, and a quantized model cannot be trained whole."""
    make_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    assert codes(write(tmp_path / "a.studio")) == set()
    assert codes(write(tmp_path / "b.studio", output="adapter")) == {("train", "no_such_result")}
    quantized = codes(write(tmp_path / "c.studio", {"quantization": "nf4"}))
    assert quantized == {("train", "whole_quantized")}


def test_the_whole_model_is_trained(tmp_path: Path) -> None:
    """The exported folder is another model than the base, with a card that says how."""
    from safetensors.torch import load_file

    make_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    project = write(tmp_path / "whole.studio")
    ran = studio("run", project, "--runs", tmp_path / "runs", "--json")
    assert ran.code == 0, ran.err[-2000:]
    assert len(ran.saved("tuned_model")) == 2  # in the run, and in the folder of the user
    before = load_file(tmp_path / "model" / "model.safetensors")
    after = load_file(tmp_path / "out" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(bool((before[n] != after[n]).any()) for n in before)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "after full fine-tuning (float32)" in card
    assert "- lora\n" not in card
    measures = ran.of("Evaluation")[0]["measures"]["exact_match"]
    assert set(measures) == {"before", "after"}
