"""The project file: exact round trip, refusals that leave it alone, atomic saving."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given

from studio.errors import StudioError
from studio.graph import project
from studio.graph.graph import Graph, Node, Wire
from studio.graph.project import (
    from_data,
    journal_path,
    load_project,
    read_journal,
    save_project,
    to_data,
    write_journal,
)
from tests.studio.graph.strategies import graphs

HEAD = {"format": "lora-studio", "version": project.VERSION}


def write(path: Path, data: object) -> Path:
    path.write_text(data if isinstance(data, str) else json.dumps(data), encoding="utf-8")
    return path


@given(graphs())
def test_json_round_trip_is_exact(graph: Graph) -> None:
    text = json.dumps(to_data(graph), ensure_ascii=False)
    assert from_data(json.loads(text)) == graph
    assert json.dumps(to_data(from_data(json.loads(text))), ensure_ascii=False) == text


def test_save_and_load(tmp_path: Path) -> None:
    graph = Graph(
        "Ünicode",
        (Node("a", "x", {"r": 1}, "T", (1.5, -2.0)), Node("b.c", "y")),
        (Wire("a", "out", "b.c", "in"),),
    )
    path = tmp_path / "p.studio"
    save_project(path, graph)
    assert load_project(path) == graph
    assert [p.name for p in tmp_path.iterdir()] == ["p.studio"]
    data = json.loads(path.read_text(encoding="utf-8"))
    assert data["wires"] == [{"from": "a.out", "to": "b.c.in"}]
    assert "settings" in data["nodes"][0]
    assert "title" not in data["nodes"][1]


def test_what_is_not_known_is_kept(tmp_path: Path) -> None:
    data = {
        **HEAD,
        "name": "n",
        "later": {"a": 1},
        "nodes": [
            {
                "id": "a",
                "type": "from_the_future",
                "position": [1, 2],
                "settings": {"new": [1]},
                "colour": 3,
            },
        ],
        "wires": [],
    }
    path = write(tmp_path / "p.studio", data)
    graph = load_project(path)
    save_project(path, graph)
    assert json.loads(path.read_text(encoding="utf-8")) == data


def test_a_short_file_takes_defaults() -> None:
    graph = from_data({**HEAD, "nodes": [{"id": "a", "type": "t"}]})
    assert graph == Graph("Untitled", (Node("a", "t"),))


def test_a_windows_editor_may_add_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "p.studio"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({**HEAD, "name": "x"}).encode())
    assert load_project(path).name == "x"


@pytest.mark.parametrize(
    ("content", "words", "code"),
    [
        ({**HEAD, "version": project.VERSION + 1}, "newer LoRA Studio", "newer_project"),
        ({**HEAD, "version": "1"}, "not a version number", "unreadable_project"),
        ({**HEAD, "version": True}, "not a version number", "unreadable_project"),
        ({**HEAD, "version": 0}, "not a version number", "unreadable_project"),
        ({"format": "other", "version": 1}, "not a LoRA Studio project", "unreadable_project"),
        ([1, 2], "not a LoRA Studio project", "unreadable_project"),
        ('{"format":\n"lora-studio",,}', "line 2 is not valid JSON", "unreadable_project"),
        ("", "line 1 is not valid JSON", "unreadable_project"),
        ("[" * 200_000, "nested too deeply", "unreadable_project"),
        ({**HEAD, "nodes": [{"id": "a"}]}, "damaged", "unreadable_project"),
        (
            {**HEAD, "nodes": [{"id": "a", "type": "t", "settings": [1]}]},
            "damaged",
            "unreadable_project",
        ),
        (
            {**HEAD, "nodes": [{"id": "a", "type": "t", "position": [1]}]},
            "damaged",
            "unreadable_project",
        ),
        ({**HEAD, "nodes": [1]}, "damaged", "unreadable_project"),
        (
            '{"format": "lora-studio", "version": ' + "9" * 5000 + "}",
            "not valid JSON",
            "unreadable_project",
        ),
        (
            {**HEAD, "nodes": [{"id": "a", "type": "t", "position": [10**400, 0]}]},
            "damaged",
            "unreadable_project",
        ),
        ({**HEAD, "wires": [{"from": "a", "to": "b.c"}]}, "NODE.PORT", "unreadable_project"),
        ({**HEAD, "wires": [{"from": "a.b"}]}, "damaged", "unreadable_project"),
    ],
)
def test_refusals_name_the_file_and_leave_it_alone(
    tmp_path: Path, content: object, words: str, code: str
) -> None:
    path = write(tmp_path / "p.studio", content)
    before = path.read_bytes(), path.stat().st_mtime_ns
    with pytest.raises(StudioError, match="studio") as caught:
        load_project(path)
    assert words in caught.value.sentence
    assert str(path) in caught.value.sentence
    assert caught.value.code == code
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before


def test_a_node_that_is_nowhere_comes_back_into_view() -> None:
    nowhere = {"id": "a", "type": "t", "position": [float("nan"), float("inf")]}
    assert from_data({**HEAD, "nodes": [nowhere]}).node("a").position == (0.0, 0.0)


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="does not exist"):
        load_project(tmp_path / "gone.studio")
    (tmp_path / "b.studio").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(StudioError, match="cannot be read"):
        load_project(tmp_path / "b.studio")
    with pytest.raises(StudioError, match="cannot be read"):
        load_project(tmp_path)


def test_older_files_are_upgraded_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "VERSION", 3)
    monkeypatch.setitem(project.UPGRADES, 1, lambda d: {**d, "name": d["name"] + "+1"})
    monkeypatch.setitem(project.UPGRADES, 2, lambda d: {**d, "name": d["name"] + "+2"})
    assert from_data({**HEAD, "version": 1, "name": "n"}).name == "n+1+2"
    assert from_data({**HEAD, "version": 2, "name": "n"}).name == "n+2"


def test_nodes_of_version_1_keep_its_defaults() -> None:
    nodes = [
        {"id": "a", "type": "dataset"},
        {"id": "b", "type": "dataset", "settings": {"documents": "line"}},
        {"id": "c", "type": "train", "settings": {"epochs": 2}},
        {"id": "d", "type": "from_an_extension"},
    ]
    old = from_data({**HEAD, "version": 1, "nodes": nodes})
    assert [dict(n.settings) for n in old.nodes] == [
        {"documents": "paragraph"},
        {"documents": "line"},
        {"long_text": "cut", "batching": "padded", "epochs": 2},
        {},
    ]
    assert not from_data({**HEAD, "nodes": nodes}).node("a").settings
    assert to_data(old)["version"] == project.VERSION


def test_nodes_of_version_2_keep_its_defaults() -> None:
    """And no default of version 1: long text was split already."""
    nodes = [
        {"id": "a", "type": "dataset"},
        {"id": "b", "type": "train", "settings": {"group_by_length": True}},
        {"id": "c", "type": "train", "settings": {"batching": "packed"}},
        {"id": "d", "type": "train"},
    ]
    old = from_data({**HEAD, "version": 2, "nodes": nodes})
    assert [dict(n.settings) for n in old.nodes] == [
        {},
        {"batching": "padded", "group_by_length": True},
        {"batching": "packed"},
        {"batching": "padded"},
    ]
    assert from_data(to_data(old)) == old
    assert not from_data({**HEAD, "nodes": nodes}).node("d").settings


@pytest.mark.parametrize("node", [1, {"id": "a"}, {"id": "a", "type": "train", "settings": [1]}])
def test_a_damaged_node_of_version_1(node: object) -> None:
    with pytest.raises(StudioError, match="damaged node"):
        from_data({**HEAD, "version": 1, "nodes": [node]})


def test_a_save_that_fails_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "p.studio"
    save_project(path, Graph("old"))
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "disk full")))
    with pytest.raises(StudioError, match=r"could not be saved: disk full") as caught:
        save_project(path, Graph("new"))
    assert caught.value.hint
    monkeypatch.undo()
    assert load_project(path).name == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["p.studio"]


@pytest.mark.skipif(os.name == "nt", reason="a file is only writable or not")
def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "p.studio"
    save_project(path, Graph("old"))
    path.chmod(0o640)
    save_project(path, Graph("new"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_the_journal_lies_beside_and_goes_with_a_save(tmp_path: Path) -> None:
    path = tmp_path / "p.studio"
    save_project(path, Graph("saved"))
    assert read_journal(path) is None
    write_journal(path, Graph("unsaved"))
    assert load_project(path).name == "saved"
    journal = read_journal(path)
    assert journal is not None
    assert journal.name == "unsaved"
    journal_path(path).write_text("{", encoding="utf-8")
    assert read_journal(path) is None
    save_project(path, Graph("saved again"))
    assert not journal_path(path).exists()
