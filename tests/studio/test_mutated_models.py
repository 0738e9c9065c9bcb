"""A hundred model folders with random damage: every check that the window and ``check`` make ends in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import StudioError
from studio.estimate.graph import estimate_graph
from studio.estimate.job import Facts
from studio.estimate.machine import Machine
from studio.export_folder.copy_files import model_files
from studio.graph.facts import facts_of
from studio.graph.graph import Graph, Node, Wire
from studio.graph.registry import load_registry
from studio.model import trust
from studio.model.models import fully_trained_choices, linear_modules, local_files
from studio.runs.plan import compile_plan
from tests.model_files import write_model, write_shards
from tests.mutated_models import SECRET, mutate, private_file

CASES = 100
MACHINE = Machine("a machine", "cpu", 8 * 2**30, 16 * 2**30, False, 0)


def project(rows: Path) -> Graph:
    nodes = (
        Node("data", "dataset", {"source": str(rows)}),
        Node("base", "base_model", {"model": "./model"}),
        Node("lora", "lora", {}),
        Node("train", "train", {}),
    )
    wires = (
        Wire("data", "dataset", "train", "dataset"),
        Wire("base", "model", "lora", "model"),
        Wire("lora", "model", "train", "model"),
    )
    return Graph("fuzz", nodes, wires)


@pytest.mark.parametrize("seed", range(CASES))
def test_a_damaged_folder_ends_in_words(seed: int, tmp_path: Path) -> None:
    """No exception, nothing that waits, no control characters, and nothing from outside the folder."""
    outside = private_file(tmp_path)
    folder = (write_shards if seed % 3 == 0 else write_model)(tmp_path / "model")
    done = mutate(folder, tmp_path, seed)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "say a", "completion": "a"}) + "\n", encoding="utf-8")
    registry, graph = load_registry(), project(rows)
    said: list[Any] = []
    compiled = compile_plan(graph, registry, tmp_path)
    said += [p.to_json() for p in compiled.problems]
    said += facts_of(graph.node("base"), registry.nodes["base_model"], tmp_path)
    estimate = estimate_graph(graph, registry, tmp_path, Facts(MACHINE))
    assert estimate is not None
    said += estimate.notes
    linear_modules("./model", tmp_path)
    fully_trained_choices("./model", tmp_path)
    files = local_files("./model", tmp_path)
    code = trust.own_code(folder)
    said += code.files if code is not None else []
    try:
        exported = [p.read_bytes() for p in model_files(folder)]
    except (StudioError, OSError) as error:
        exported = []
        said.append(str(error))
    text = repr(said)
    assert SECRET not in text, done
    assert not any(SECRET.encode() in content for content in exported), done
    assert not any(p.resolve() == outside for p in files), done
    for problem in compiled.problems:
        shown = problem.sentence + problem.hint
        assert shown.isprintable(), done
        assert len(shown) < 2000, done
