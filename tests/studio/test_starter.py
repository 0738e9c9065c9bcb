"""The starter project that ships: it opens, has no Problem, and is drawn tidily."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.export_folder import llama_cpp
from studio.graph.problems import find_problems
from studio.graph.project import load_project, save_project
from studio.graph.registry import load_registry
from studio.node_settings.export import ExportSettings
from studio.runs.plan import compile_plan
from studio.system.paths import assets_dir
from tests.laid_out import assert_laid_out

STARTER = assets_dir() / "starter.studio"


def test_it_opens_without_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: True)
    graph = load_project(STARTER)
    assert graph.ids() == ("data", "base", "lora", "train", "merge", "export", "test", "evaluate")
    assert find_problems(graph, load_registry(), assets_dir()) == []


def test_it_ends_with_a_gguf_file_of_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without llama.cpp it is written all the same, and said to be not proven before the run."""
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    graph, registry = load_project(STARTER), load_registry()
    export = ExportSettings.model_validate(graph.node("export").settings)
    own = registry.variant("exporter", export.format).settings
    assert export.format == "gguf"
    assert export.check_rows > 0
    assert own.model_validate(export.format_settings).quantizations == ["Q8_0"]
    (found,) = find_problems(graph, registry, assets_dir())
    assert (found.node, found.code, found.blocks) == ("export", "no_llama_cpp", False)
    assert compile_plan(graph, registry, assets_dir()).plan is not None


def test_it_is_written_as_save_writes_it(tmp_path: Path) -> None:
    save_project(tmp_path / "again.studio", load_project(STARTER))
    assert (tmp_path / "again.studio").read_bytes() == STARTER.read_bytes()


def test_test_rows_are_kept_apart_and_asked_before_and_after() -> None:
    graph = load_project(STARTER)
    sources = {n: graph.node(n).settings["source"] for n in ("data", "test")}
    assert sources["data"] != sources["test"]
    texts = [set((assets_dir() / s).read_text("utf-8").splitlines()) for s in sources.values()]
    assert not texts[0] & texts[1]
    ends = {(w.start, w.end) for w in graph.wires}
    assert {("test.dataset", "evaluate.dataset"), ("merge.model", "evaluate.model")} <= ends


def test_nodes_lie_apart_and_wires_run_to_the_right() -> None:
    assert_laid_out(load_project(STARTER), 110)
