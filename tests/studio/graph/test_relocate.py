"""A project that is saved elsewhere still finds its files."""

from __future__ import annotations

from pathlib import Path

from studio.graph.graph import Graph, Node
from studio.graph.registry import load_registry
from studio.graph.relocate import relocated


def moved(settings: dict[str, object], node_type: str, old: Path, new: Path) -> object:
    """The node's settings after the project moved."""
    graph = Graph("P", (Node("n", node_type, settings),))
    return dict(relocated(graph, load_registry(), old, new).node("n").settings)


def test_a_relative_file_stays_reachable(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "rows.jsonl").write_text("{}", encoding="utf-8")
    found = moved({"source": "rows.jsonl"}, "dataset", old, new)
    assert found == {"source": str(old / "rows.jsonl")}


def test_a_file_below_the_new_folder_stays_relative(tmp_path: Path) -> None:
    old = tmp_path / "projects" / "one"
    old.mkdir(parents=True)
    (old / "rows.jsonl").write_text("{}", encoding="utf-8")
    found = moved({"source": "rows.jsonl"}, "dataset", old, tmp_path / "projects")
    assert found == {"source": "one/rows.jsonl"}


def test_what_is_no_path_is_left_alone(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    for settings in ({"model": "Qwen/Qwen3-0.6B"}, {"model": "starter:smollm2-135m"}):
        assert moved(dict(settings), "base_model", old, new) == settings
    assert moved({"source": "/x/rows.jsonl"}, "dataset", old, new) == {"source": "/x/rows.jsonl"}
    assert moved({"source": "gone.jsonl"}, "dataset", old, new) == {"source": "gone.jsonl"}


def test_an_absolute_path_stays_absolute(tmp_path: Path) -> None:
    """Also where its file lies below the new folder."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    file = new / "rows.jsonl"
    file.write_text("{}", encoding="utf-8")
    assert moved({"source": str(file)}, "dataset", old, new) == {"source": str(file)}


def test_odd_names_stay(tmp_path: Path) -> None:
    for name in ("~nobody-of-this-name/x", "x" * 300, "a\0b"):
        assert moved({"source": name}, "dataset", tmp_path, tmp_path / "new") == {"source": name}


def test_several_files_and_patterns(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "data").mkdir(parents=True)
    new.mkdir()
    for name in ("a.jsonl", "data/b.jsonl", "c;d.jsonl"):
        (old / name).write_text("{}", encoding="utf-8")
    several = {"source": "a.jsonl; gone.jsonl; data/*.jsonl"}
    found = moved(dict(several), "dataset", old, new)
    assert found == {"source": f"{old}/a.jsonl; gone.jsonl; {old}/data/*.jsonl"}
    found = moved({"source": "c;d.jsonl"}, "dataset", old, new)
    assert found == {"source": str(old / "c;d.jsonl")}
    found = moved({"source": "*.jsonl"}, "dataset", old, new)
    assert found == {"source": f"{old}/*.jsonl"}
