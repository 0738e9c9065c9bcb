"""The templates that ship: each opens, has no problem, and has data that its generator writes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from studio.errors import Problem
from studio.graph.graph import Graph
from studio.graph.problems import find_problems
from studio.graph.project import load_project, save_project
from studio.graph.registry import load_registry
from studio.graph.templates import TEMPLATES, Template, from_template
from studio.runs.row_check import check_all_rows
from studio.system.paths import assets_dir
from tests.laid_out import assert_laid_out

FOLDER = assets_dir() / "templates"
DATA = FOLDER / "data"
WAIT_S = 600.0

pytestmark = pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.id)


def problems(graph: Graph, folder: Path) -> list[Problem]:
    """What is shown before a run, without what is only information: a training that goes on says so."""
    return [p for p in find_problems(graph, load_registry(), folder) if p.severity != "info"]


def test_it_has_no_problem_and_no_warning(template: Template) -> None:
    graph, registry = load_project(template.path), load_registry()
    check_all_rows(graph, registry, FOLDER, WAIT_S)
    assert problems(graph, FOLDER) == []
    assert graph.name == template.title


def test_it_is_written_as_save_writes_it(template: Template, tmp_path: Path) -> None:
    save_project(tmp_path / "again.studio", load_project(template.path))
    assert (tmp_path / "again.studio").read_bytes() == template.path.read_bytes()


def test_nodes_lie_apart_and_wires_run_to_the_right(template: Template) -> None:
    assert_laid_out(load_project(template.path), 115)


def test_a_new_project_reads_the_same_files_from_any_folder(
    template: Template, tmp_path: Path
) -> None:
    registry = load_registry()
    graph = from_template(template, registry, tmp_path)
    assert problems(graph, tmp_path) == []
    for node in graph.nodes:
        if node.type == "dataset":
            assert Path(node.settings["source"]).parent == DATA


def test_its_test_rows_are_no_training_rows(template: Template) -> None:
    graph = load_project(template.path)
    sources = {n.id: n.settings["source"] for n in graph.nodes if n.type == "dataset"}
    test = sources.pop("test", None)
    if test is None:
        return
    rows = {line for source in sources.values() for line in _rows(FOLDER / source)}
    assert rows.isdisjoint(_rows(FOLDER / test))


def _rows(path: Path) -> list[str]:
    lines = path.read_text("utf-8").splitlines()
    if path.suffix == ".csv":
        return [json.dumps(row) for row in csv.DictReader(lines)]
    return [line for line in lines if line]
