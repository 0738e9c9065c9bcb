"""A saved project has its own copy of the sample data that ships with the program."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.graph.edits import set_setting
from studio.graph.graph import Graph
from studio.graph.own_data import with_own_data
from studio.graph.problems import find_problems
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.graph.templates import TEMPLATES, Template, from_template
from studio.system.paths import assets_dir

REGISTRY = load_registry()
TICKETS = next(t for t in TEMPLATES if t.id == "classify-text")


def sources(graph: Graph) -> list[str]:
    return [n.settings["source"] for n in graph.nodes if n.type == "dataset"]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda t: t.id)
def test_nothing_leads_into_the_program_any_more(template: Template, tmp_path: Path) -> None:
    graph = from_template(template, REGISTRY, tmp_path)
    saved, folder = with_own_data(graph, REGISTRY, tmp_path / "mine.studio")
    assert folder == tmp_path / "mine-data"
    for source in sources(saved):
        assert source.startswith("mine-data/")
        original = assets_dir() / "templates" / "data" / Path(source).name
        assert (tmp_path / source).read_bytes() == original.read_bytes()
    assert [p for p in find_problems(saved, REGISTRY, tmp_path) if p.severity != "info"] == []


def test_the_notices_of_the_licences_come_along(tmp_path: Path) -> None:
    graph = load_project(assets_dir() / "starter.studio")
    for node in graph.nodes:
        if node.type == "dataset":
            path = str(assets_dir() / node.settings["source"])
            graph = set_setting(graph, node.id, "source", path)
    with_own_data(graph, REGISTRY, tmp_path / "mine.studio")
    kept = {p.name for p in (tmp_path / "mine-data").iterdir()}
    assert kept >= {"wordnet8_train.jsonl", "wordnet8_test.jsonl", "LICENSE-WordNet.txt"}
    assert "chatterbot_en_alpaca.jsonl" not in kept


def test_data_that_was_changed_is_not_replaced(tmp_path: Path) -> None:
    graph = from_template(TICKETS, REGISTRY, tmp_path)
    project = tmp_path / "mine.studio"
    with_own_data(graph, REGISTRY, project)
    changed = tmp_path / "mine-data" / "tickets_train.csv"
    changed.write_text("text,label\nmy own,row\n", encoding="utf-8")
    _, folder = with_own_data(graph, REGISTRY, project)
    assert folder == tmp_path / "mine-data-2"
    assert changed.read_text("utf-8") == "text,label\nmy own,row\n"


def test_the_same_data_is_not_copied_twice(tmp_path: Path) -> None:
    graph = from_template(TICKETS, REGISTRY, tmp_path)
    for _ in range(2):
        _, folder = with_own_data(graph, REGISTRY, tmp_path / "mine.studio")
        assert folder == tmp_path / "mine-data"
    assert [p.name for p in tmp_path.iterdir()] == ["mine-data"]


def test_files_of_the_user_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.jsonl").write_text("{}\n", encoding="utf-8")
    graph = from_template(TICKETS, REGISTRY, tmp_path)
    both = f"own.jsonl; {sources(graph)[0]}"
    graph = set_setting(graph, "data", "source", both)
    saved, _ = with_own_data(graph, REGISTRY, tmp_path / "mine.studio")
    assert sources(saved)[0] == "own.jsonl; mine-data/tickets_train.csv"


def test_a_project_without_sample_data_is_left_alone(tmp_path: Path) -> None:
    graph = set_setting(from_template(TICKETS, REGISTRY, tmp_path), "data", "source", "x.csv")
    graph = set_setting(graph, "test", "source", "hub:owner/name")
    assert with_own_data(graph, REGISTRY, tmp_path / "mine.studio") == (graph, None)
    assert list(tmp_path.iterdir()) == []


def test_a_copy_that_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = from_template(TICKETS, REGISTRY, tmp_path)

    def full(source: Path, target: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StudioError, match="mine-data: No space left on device") as caught:
        with_own_data(graph, REGISTRY, tmp_path / "mine.studio")
    assert caught.value.title == "The project was not saved"
