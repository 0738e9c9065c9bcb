"""The quick look at data converts rows once while nothing changed, and again after any change."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from studio.data import check
from studio.data.detect import Chosen
from studio.graph.edits import set_setting
from studio.graph.graph import Graph, Node
from studio.graph.problems import find_problems
from studio.graph.registry import Registry, load_registry


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose rows were converted."""
    seen: list[Path] = []
    real = Chosen.read

    def convert(chosen: Chosen, row: Any, path: Path) -> Any:
        seen.append(path)
        return real(chosen, row, path)

    monkeypatch.setattr(Chosen, "read", convert)
    check._results.clear()
    return seen


@pytest.fixture(scope="module")
def registry() -> Registry:
    """All node types and formats."""
    return load_registry()


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    """A Dataset node beside a LoRA step."""
    (tmp_path / "rows.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    nodes = (Node("data", "dataset", {"source": "rows.jsonl"}), Node("lora", "lora"))
    return Graph("Kept", nodes, ())


def test_another_node_s_setting_converts_no_row(
    graph: Graph, registry: Registry, tmp_path: Path, converted: list[Path]
) -> None:
    find_problems(graph, registry, tmp_path)
    assert len(converted) == 2
    find_problems(set_setting(graph, "lora", "r", 32), registry, tmp_path)
    assert len(converted) == 2


def test_the_dataset_s_own_setting_converts_again(
    graph: Graph, registry: Registry, tmp_path: Path, converted: list[Path]
) -> None:
    find_problems(graph, registry, tmp_path)
    found = find_problems(set_setting(graph, "data", "format", "messages"), registry, tmp_path)
    assert [p.node for p in found if p.node == "data" and p.blocks]
    assert len(converted) > 2


def errors_of(graph: Graph, registry: Registry, folder: Path) -> list[str]:
    found = find_problems(graph, registry, folder)
    return [p.code for p in found if p.node == "data" and p.blocks]


def test_a_changed_file_is_noticed(
    graph: Graph, registry: Registry, tmp_path: Path, converted: list[Path]
) -> None:
    graph = set_setting(graph, "data", "format", "text")
    assert not errors_of(graph, registry, tmp_path)
    path = tmp_path / "rows.jsonl"
    stat = path.stat()
    path.write_text('{"word": "one"}\n{"word": "two"}\n', encoding="utf-8")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert errors_of(graph, registry, tmp_path)
    path.unlink()
    assert errors_of(graph, registry, tmp_path)


def test_other_formats_convert_again(
    graph: Graph, registry: Registry, tmp_path: Path, converted: list[Path]
) -> None:
    find_problems(graph, registry, tmp_path)
    kinds = dict(registry.variants)
    kinds["format"] = {k: v for k, v in kinds["format"].items() if k != "kto"}
    find_problems(graph, replace(registry, variants=kinds), tmp_path)
    assert len(converted) == 4
