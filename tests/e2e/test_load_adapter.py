"""An adapter from elsewhere in a project: checked before the run, evaluated, merged and exported in the terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from tests.e2e.studio_cli import ROOT, studio, write_rows
from tests.tiny import make_tiny_model

ADAPTER = ROOT / "tests" / "fixtures" / "adapters" / "peft-0.13"


def write(path: Path, adapter: str = "received", base: str = "model") -> Path:
    """Base model and Load Adapter, with Evaluate, Merge and two Exports."""
    nodes = [
        {"id": "data", "type": "dataset", "settings": {"source": "rows.jsonl"}},
        {"id": "base", "type": "base_model", "settings": {"model": base, "dtype": "float32"}},
        {"id": "load", "type": "load_adapter", "settings": {"adapter": adapter}},
        {"id": "merge", "type": "merge"},
        {"id": "share", "type": "export", "settings": {"folder": "adapter-out"}},
        {"id": "export", "type": "export", "settings": {"folder": "model-out"}},
        {"id": "test", "type": "evaluate", "settings": {"rows": 4, "max_new_tokens": 8}},
    ]
    wires = [
        ("base.model", "load.model"),
        ("load.adapter", "merge.adapter"),
        ("load.adapter", "share.model"),
        ("merge.model", "export.model"),
        ("data.dataset", "test.dataset"),
        ("load.adapter", "test.model"),
    ]
    project = {
        "format": "lora-studio",
        "version": 3,
        "name": "Received",
        "nodes": nodes,
        "wires": [{"from": a, "to": b} for a, b in wires],
    }
    path.write_text(json.dumps(project), encoding="utf-8")
    return path


def problems(path: Path) -> list[tuple[str | None, str, str]]:
    """Node, code and hint of every Problem."""
    found = find_problems(load_project(path), load_registry(), path.parent)
    return [(p.node, p.code, p.hint) for p in found]


def test_a_received_adapter_is_checked_before_the_run(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    make_tiny_model(tmp_path / "small", layers=1)
    write_rows(tmp_path / "rows.jsonl")
    shutil.copytree(ADAPTER, tmp_path / "received")
    assert problems(write(tmp_path / "a.studio")) == []
    ((node, code, hint),) = problems(write(tmp_path / "b.studio", base="small"))
    assert (node, code) == ("load", "other_base")
    assert "someone/tiny-talk" in hint
    assert [p[:2] for p in problems(write(tmp_path / "c.studio", adapter=""))] == [
        ("load", "missing_setting")
    ]
    assert [
        p[:2] for p in problems(write(tmp_path / "d.studio", adapter="model"))
    ] == []  # a Hub ID
    assert [p[:2] for p in problems(write(tmp_path / "e.studio", adapter="./model"))] == [
        ("load", "model_folder")
    ]
    wrong = problems(write(tmp_path / "f.studio", base="./received"))
    assert any(code == "adapter_folder" and "Load Adapter" in hint for _, code, hint in wrong)


def stronger(weights: Path) -> None:
    """Another adapter of the same shape and size."""
    tensors = load_file(weights)
    save_file({n: 2 * t for n, t in tensors.items()}, weights, metadata={"format": "pt"})


@pytest.mark.slow(seconds=50)
def test_a_received_adapter_is_evaluated_merged_and_exported(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    shutil.copytree(ADAPTER, tmp_path / "received")
    project = write(tmp_path / "a.studio")
    ran = studio("run", project, "--runs", tmp_path / "runs", "--json")
    assert ran.code == 0, ran.err
    assert ran.status == "completed"
    (evaluation,) = ran.of("Evaluation")
    assert set(evaluation["measures"]["exact_match"]) == {"before", "after"}
    config = json.loads(
        (tmp_path / "adapter-out" / "adapter_config.json").read_text(encoding="utf-8")
    )
    assert (config["r"], config["lora_alpha"]) == (4, 4)
    card = (tmp_path / "model-out" / "README.md").read_text(encoding="utf-8")
    assert "merged into its weights" in card.replace("\n", " ")
    again = studio("run", project, "--runs", tmp_path / "runs", "--json")
    assert again.status == "completed"
    assert "load" in {e["node"] for e in again.of("StepFinished") if e["cached"]}
    stronger(tmp_path / "received" / "adapter_model.safetensors")
    other = studio("run", project, "--runs", tmp_path / "runs", "--json")
    assert {e["node"]: e["cached"] for e in other.of("StepFinished")} == {
        **dict.fromkeys(("data", "base"), True),
        **dict.fromkeys(("load", "merge", "share", "export", "test"), False),
    }
    (tmp_path / "received" / "adapter_model.safetensors").write_bytes(b"other")
    changed = studio("run", project, "--runs", tmp_path / "runs", "--json")
    assert changed.code != 0
    assert "Load Adapter: adapter_model.safetensors" in changed.out + changed.err
