"""Looking through a folder: never more names than fit into a check, and not again while nothing changed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from studio.data.reading import walk as _walk
from studio.data.reading.folder import find_files
from studio.errors import StudioError
from studio.graph.graph import Graph, Node
from studio.graph.problems import find_problems
from studio.graph.registry import load_registry

LONG_AGO = time.time() - 3600


def settle(folder: Path) -> None:
    """As if nothing had changed below a folder for an hour."""
    for place, _, _ in os.walk(folder):
        os.utime(place, (LONG_AGO, LONG_AGO))


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The folders that were looked into."""
    seen: list[str] = []
    real = _walk._listed
    monkeypatch.setattr(_walk, "_listed", lambda place: (seen.append(place), real(place))[1])
    return seen


def rows(path: Path) -> Path:
    """A file with one row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('{"text": "one"}\n', encoding="utf-8")
    return path


def test_files_come_in_order_without_hidden_ones_and_linked_folders(tmp_path: Path) -> None:
    named = ("b.jsonl", "a.jsonl", "c/z.jsonl", "c/d/y.jsonl", ".git/x.jsonl", ".h.jsonl")
    for name in named:
        rows(tmp_path / "set" / name)
    rows(tmp_path / "elsewhere" / "w.jsonl")
    (tmp_path / "set" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "round").symlink_to(tmp_path / "set" / "round")
    found = find_files("set", tmp_path).files
    names = [p.relative_to(tmp_path / "set").as_posix() for p in found]
    assert names == ["a.jsonl", "b.jsonl", "c/z.jsonl", "c/d/y.jsonl"]


def test_a_folder_is_looked_through_once_while_nothing_changes(
    tmp_path: Path, scans: list[str]
) -> None:
    folder = tmp_path / "set"
    first = rows(folder / "deep" / "a.jsonl")
    settle(folder)
    assert find_files("set", tmp_path).files == (first,)
    looked_into = len(scans)
    assert looked_into == 2
    assert find_files("set", tmp_path).files == (first,)
    assert len(scans) == looked_into
    second = rows(folder / "deep" / "b.jsonl")
    assert find_files("set", tmp_path).files == (first, second)
    second.unlink()
    assert find_files("set", tmp_path).files == (first,)


def test_a_folder_that_has_just_changed_is_looked_through_again(tmp_path: Path) -> None:
    """Its clock may not tell one change from the next."""
    folder = tmp_path / "set"
    first = rows(folder / "a.jsonl")
    find_files("set", tmp_path)
    changed = folder.stat().st_mtime_ns
    second = rows(folder / "b.jsonl")
    os.utime(folder, ns=(changed, changed))
    assert find_files("set", tmp_path).files == (first, second)


def test_a_huge_folder_is_told_in_one_sentence_and_quickly(
    tmp_path: Path, scans: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_walk, "MOST_NAMES", 300)
    for place in range(20):
        (tmp_path / "disk" / str(place)).mkdir(parents=True)
        for name in range(30):
            (tmp_path / "disk" / str(place) / f"{name}.bin").touch()
    graph = Graph("Talk", (Node("data", "dataset", {"source": "disk"}),))
    registry = load_registry()
    (problem,) = (
        p for p in find_problems(graph, registry, tmp_path) if p.code == "folder_too_large"
    )
    assert problem.sentence.endswith(
        "disk contains more than 300 files and folders, too many to search."
    )
    assert problem.field == "source"
    assert len(scans) < 20
    looked_into = len(scans)
    find_problems(graph, registry, tmp_path)
    assert len(scans) == looked_into
    with pytest.raises(StudioError, match="too many to search"):
        find_files("disk", tmp_path)
    monkeypatch.setattr(_walk, "_TOO_LARGE_S", 0.0)
    with pytest.raises(StudioError):
        find_files("disk", tmp_path)
    assert len(scans) > looked_into
