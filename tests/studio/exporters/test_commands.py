"""Commands for exports, the models folder of LM Studio, and the graph with an export for a program."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from studio.errors import StudioError
from studio.export_folder import lm_studio
from studio.export_folder.commands import commands, complete_models, quoted
from studio.export_folder.lm_studio import add_model, models_folder, place_for
from studio.export_folder.ollama_program import create_model
from studio.graph.graph import Graph, Node, Wire
from studio.recipe.export_for import export_for

HARD = '/home/Ann Müller/it\'s $HOME & "more"; (50%)'


def test_a_shell_splits_a_command_into_what_was_meant() -> None:
    parts = ("vllm", "serve", HARD, "--lora-modules", f"a={HARD}")
    assert tuple(shlex.split(quoted(parts, windows=False))) == parts
    if os.name != "nt":
        line = quoted(("printf", r"%s\n", *parts), windows=False)
        done = subprocess.run(["sh", "-c", line], capture_output=True, encoding="utf-8", check=True)
        assert done.stdout.splitlines() == list(parts)


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        (r"C:\models\a", r"C:\models\a"),
        (r"C:\My Models\a", r'"C:\My Models\a"'),
        (r"C:\R&D\a(1)", r'"C:\R&D\a(1)"'),
        ("a=C:\\x;y", '"a=C:\\x;y"'),
        ("", '""'),
    ],
)
def test_paths_are_quoted_for_windows(argument: str, line: str) -> None:
    assert quoted([argument], windows=True) == line


def adapter_folder(root: Path, rank: int, loads: bool = True) -> Path:
    folder = root / "my adapter"
    folder.mkdir()
    config = {"r": rank, "base_model_name_or_path": "owner/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    manifest = {"loads": {"vllm": loads}}
    (folder / "lora-studio.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


def test_the_command_for_an_adapter_has_the_rank_that_vllm_takes(tmp_path: Path) -> None:
    folder = adapter_folder(tmp_path, 24)
    found = {c.program: c.arguments for c in commands("adapter", folder)}
    assert found["vLLM"] == (
        *("vllm", "serve", "owner/base", "--enable-lora", "--max-lora-rank", "32"),
        *("--lora-modules", f"my adapter={folder}"),
    )
    assert found["text-generation-webui"][3:] == (
        *("owner_base", "--lora-dir", str(tmp_path), "--lora", "my adapter"),
    )


def test_a_base_beside_the_adapter_is_named_from_anywhere(tmp_path: Path) -> None:
    """The config of an export names it relative to the adapter."""
    folder = adapter_folder(tmp_path, 8)
    base = tmp_path / "models" / "base"
    base.mkdir(parents=True)
    config = {"r": 8, "base_model_name_or_path": "../models/base"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    found = {c.program: c.arguments for c in commands("adapter", folder)}
    assert found["vLLM"][2] == str(base)
    assert found["text-generation-webui"][2:6] == (
        *("--model-dir", str(base.parent), "--model", "base"),
    )


@pytest.mark.parametrize(
    ("files", "complete"),
    [
        (["a-Q8_0.gguf", "a-Q4_0.gguf"], ["a-Q4_0.gguf", "a-Q8_0.gguf"]),
        (["a-F16.gguf", "talk-LoRA.gguf"], []),  # an Ollama folder of an adapter
        (["talk-LoRA.gguf"], []),
        ([], []),
    ],
)
def test_what_runs_without_an_adapter(
    tmp_path: Path, files: list[str], complete: list[str]
) -> None:
    for name in files:
        (tmp_path / name).write_bytes(b"GGUF")
    assert [p.name for p in complete_models(tmp_path)] == complete


@pytest.mark.parametrize(
    "text", ["", "[]", '{"loads": "no", "r": [1], "rank_pattern": [8]}', "[" * 100_000]
)
def test_damaged_files_of_an_export_do_not_stop_the_commands(tmp_path: Path, text: str) -> None:
    folder = adapter_folder(tmp_path, 8)
    for name in ("adapter_config.json", "lora-studio.json"):
        (folder / name).write_text(text, encoding="utf-8")
    assert [c.program for c in commands("adapter", folder)]
    assert commands("ollama_folder", folder)
    (tmp_path / ".lmstudio").mkdir()
    (tmp_path / ".lmstudio" / "settings.json").write_text(text, encoding="utf-8")
    assert models_folder(tmp_path) == tmp_path / ".lmstudio" / "models"


@pytest.mark.parametrize(("rank", "loads"), [(8, False), (513, True)])
def test_there_is_no_command_for_a_program_that_refuses_it(
    tmp_path: Path, rank: int, loads: bool
) -> None:
    folder = adapter_folder(tmp_path, rank, loads)
    assert "vLLM" not in [c.program for c in commands("adapter", folder)]


def test_the_commands_for_gguf_files(tmp_path: Path) -> None:
    for name in ("a-Q8_0.gguf", "a-Q4_0.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    lines = [c.arguments for c in commands("gguf", tmp_path)]
    assert lines == [
        ("llama-server", "-m", str(tmp_path / "a-Q4_0.gguf")),
        ("llama-server", "-m", str(tmp_path / "a-Q8_0.gguf")),
    ]
    (tmp_path / "a-Q4_0.gguf").unlink()
    (tmp_path / "a-F32-LoRA.gguf").write_bytes(b"GGUF")
    (with_adapter,) = commands("adapter_gguf", tmp_path)
    assert with_adapter.arguments[2:] == (
        *(str(tmp_path / "a-Q8_0.gguf"), "--lora", str(tmp_path / "a-F32-LoRA.gguf")),
    )
    assert commands("dataset", tmp_path) == commands("gguf", tmp_path / "gone") == []


# ------------------------------------------------------------------ LM Studio


def test_the_models_folder_is_where_lm_studio_says(tmp_path: Path) -> None:
    assert models_folder(tmp_path) is None
    older = tmp_path / ".cache" / "lm-studio"
    older.mkdir(parents=True)
    assert models_folder(tmp_path) == older / "models"
    newer = tmp_path / ".lmstudio"
    newer.mkdir()
    assert models_folder(tmp_path) == newer / "models"
    (newer / "settings.json").write_text("{broken", encoding="utf-8")
    assert models_folder(tmp_path) == newer / "models"
    settings = json.dumps({"downloadsFolder": str(tmp_path / "big disk")})
    (newer / "settings.json").write_text(settings, encoding="utf-8")
    assert models_folder(tmp_path) == tmp_path / "big disk"
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / ".lmstudio-home-pointer").write_text(f"{moved}\n", encoding="utf-8")
    assert models_folder(tmp_path) == moved / "models"


def test_the_quantizations_of_a_model_share_a_folder(tmp_path: Path) -> None:
    places = [
        place_for(Path(f"Tone-{q}.gguf"), tmp_path) for q in ("Q8_0", "Q4_K_M", "BF16", "IQ4_XS")
    ]
    assert {p.parent for p in places} == {tmp_path / "lora-studio" / "Tone-GGUF"}


def test_a_file_is_linked_and_replaces_an_earlier_one(tmp_path: Path) -> None:
    file = tmp_path / "Tone-Q8_0.gguf"
    file.write_bytes(b"GGUF one")
    added = add_model(file, tmp_path / "models")
    assert added.samefile(file)
    file.unlink()
    file.write_bytes(b"GGUF two")
    assert add_model(file, tmp_path / "models").read_bytes() == b"GGUF two"
    assert [p.name for p in added.parent.iterdir()] == [file.name]


def test_a_copy_reports_progress_and_leaves_nothing_when_it_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*args: object) -> None:
        raise OSError("other disk")

    monkeypatch.setattr(lm_studio.os, "link", no_link)
    monkeypatch.setattr(lm_studio, "_BLOCK", 4)
    file = tmp_path / "Tone-Q8_0.gguf"
    file.write_bytes(b"GGUF1234567")
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 8:
            raise StudioError("stopped")

    with pytest.raises(StudioError, match="stopped"):
        add_model(file, tmp_path / "models", stop)
    assert seen == [(4, 11), (8, 11)]
    assert [p for p in (tmp_path / "models").rglob("*") if p.is_file()] == []
    assert add_model(file, tmp_path / "models").read_bytes() == b"GGUF1234567"
    monkeypatch.setattr(lm_studio.disk, "free_bytes", lambda folder: 5)
    with pytest.raises(StudioError, match=r"LM Studio"):
        add_model(file, tmp_path / "other")
    with pytest.raises(StudioError, match="does not exist any more"):
        add_model(tmp_path / "gone.gguf", tmp_path / "models")


def test_without_ollama_an_error_says_where_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudioError) as caught:
        create_model(tmp_path, print)
    assert "https://ollama.com" in caught.value.hint


# ------------------------------------------------------------------ the graph


def graph(*kinds: str, wires: tuple[Wire, ...] = ()) -> Graph:
    nodes = tuple(Node(k, k, position=(260.0 * i, 0.0)) for i, k in enumerate(kinds))
    return Graph("x", nodes, wires)


def test_a_merge_and_an_export_are_added_after_a_training_of_an_adapter() -> None:
    before = graph("lora", "train", wires=(Wire("lora", "model", "train", "model"),))
    after, node = export_for(before, "gguf", "For LM Studio")
    assert [w.start + ">" + w.end for w in after.wires[1:]] == [
        "train.adapter>merge.adapter",
        "merge.model>export.model",
    ]
    assert after.node(node).settings == {"format": "gguf"}
    assert export_for(after, "gguf", "For LM Studio") == (after, node)  # it is there
    places = [n.position for n in after.nodes]
    assert len(set(places)) == len(places)


def test_a_merge_that_is_there_is_used_and_another_export_is_kept() -> None:
    wires = (
        Wire("lora", "model", "train", "model"),
        Wire("train", "adapter", "merge", "adapter"),
        Wire("merge", "model", "export", "model"),
    )
    before = graph("lora", "train", "merge", "export", wires=wires)
    after, node = export_for(before, "ollama", "For Ollama")
    assert node == "export2"
    assert after.wires[3:] == (Wire("merge", "model", "export2", "model"),)
    assert len(after.nodes) == 5


def test_a_tuned_model_needs_no_merge() -> None:
    before = graph("base_model", "train", wires=(Wire("base_model", "model", "train", "model"),))
    after, node = export_for(before, "ollama", "For Ollama")
    assert after.wires[1:] == (Wire("train", "model", node, "model"),)


def test_a_graph_without_a_training_is_refused() -> None:
    with pytest.raises(StudioError, match="no training"):
        export_for(graph("dataset", "base_model"), "ollama", "For Ollama")
