"""What the Export node says about its folder while the graph is edited."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import Problem
from studio.export_folder import llama_cpp
from studio.export_folder.folder import MANIFEST
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.export import ExportSettings
from studio.nodes.export import check


def problems(root: Path, folder: str) -> list[Problem]:
    context = CheckContext(
        "export",
        "Export",
        root,
        inputs={"model": ("merge", None)},
        variants=load_registry().variants,
    )
    return list(check(ExportSettings(folder=folder), context))


def test_the_run_folder_a_new_folder_and_an_empty_one_are_fine(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in ("", "new", "new/deep", "empty", str(tmp_path / "elsewhere")):
        assert problems(tmp_path, folder) == []


def test_an_earlier_export_is_fine(tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "config.json").write_text("{}", encoding="utf-8")
    (old / MANIFEST).write_text('{"files": {"config.json": 2}}', encoding="utf-8")
    assert problems(tmp_path, "old") == []


@pytest.mark.parametrize(
    ("folder", "code", "word"),
    [
        ("file.txt", "file_in_the_way", "is a file"),
        ("file.txt/below", "file_in_the_way", "is a file"),
        ("full", "folder_not_empty", "thesis.txt"),
    ],
)
def test_what_is_in_the_way(folder: str, code: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("x", encoding="utf-8")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x", encoding="utf-8")
    (found,) = problems(tmp_path, folder)
    assert (found.code, found.field, found.node) == (code, "folder", "export")
    assert found.sentence.startswith("Export: ")
    assert word in found.sentence
    assert found.hint


def test_a_method_without_a_merge_is_refused_before_training() -> None:
    from types import SimpleNamespace

    from studio.graph.node_type import Variant
    from studio.node_settings.lora import LoraSettings
    from studio.node_settings.merge import MergeSettings
    from studio.nodes.merge import check as check_merge

    odd = Variant("adapter", "odd", "Odd", "", payload=SimpleNamespace(mergeable=False))
    for method, wanted in (("odd", 1), ("lora", 0)):
        variants = {**load_registry().variants}
        variants["adapter"] = {**variants["adapter"], "odd": odd}
        context = CheckContext(
            "merge",
            "Merge",
            Path(),
            upstream={"l": ("lora", LoraSettings(method=method))},
            variants=variants,
        )
        found = list(check_merge(MergeSettings(), context))
        assert [p.code for p in found] == ["cannot_merge"] * wanted


def test_files_that_cannot_be_read_back_are_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = CheckContext("export", "Export", tmp_path, variants=load_registry().variants)
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: False)
    (found,) = check(ExportSettings(format="gguf"), context)
    assert (found.code, found.field, found.severity) == ("no_llama_cpp", "format", "warning")
    assert llama_cpp.install_command() in found.hint
    assert f"{llama_cpp.SIZE_MB} MB" in found.hint
    monkeypatch.setattr(llama_cpp, "is_installed", lambda: True)
    assert not list(check(ExportSettings(format="gguf"), context))
