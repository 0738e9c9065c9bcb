"""``main.py commands``: what the window copies from *Use In*, for a run and for the folder of an export."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path

import pytest

from studio.cli import main
from studio.events import event
from studio.export_folder.folder import write_manifest
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from tests.studio.runs import toy_runs


def toy_run(root: Path) -> RunFolder:
    folder = toy_runs.folder(root)
    assert toy_runs.run_here(folder) == "completed"
    return folder


def ollama_export(root: Path) -> Path:
    folder = root / "made here" / "export"
    folder.mkdir(parents=True)
    (folder / "tone-Q8_0.gguf").write_bytes(b"GGUF")
    (folder / "Modelfile").write_text("FROM ./tone-Q8_0.gguf\n", encoding="utf-8")
    write_manifest(folder, "ollama_folder", {"ollama_name": "tone"})
    return folder


def test_the_folder_of_an_export(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ollama_export(tmp_path)
    assert main(["commands", str(folder)]) == 0
    out = capsys.readouterr().out
    assert f"Ollama folder: {folder}" in out.splitlines()[0]
    line = next(text for text in out.splitlines() if text.startswith("  Ollama (create): "))
    if os.name != "nt":
        words = shlex.split(line.partition(": ")[2])
        assert words == ["ollama", "create", "tone", "-f", str(folder / "Modelfile")]
    assert main(["commands", str(folder), "--json"]) == 0
    rows = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [r["program"] for r in rows] == ["Ollama (create)", "Ollama (run)", "llama.cpp"]
    assert rows[2]["arguments"] == ["llama-server", "-m", str(folder / "tone-Q8_0.gguf")]


def test_a_run_names_them_and_lists_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from studio.cli.report import print_results

    folder, export = toy_run(tmp_path), ollama_export(tmp_path)
    made = event("ArtifactSaved", "export", kind="ollama_folder", path=str(export))
    text = folder.events_path.read_text(encoding="utf-8").splitlines()
    text.insert(-1, made.to_line().strip())
    folder.events_path.write_text("\n".join(text) + "\n", encoding="utf-8")
    assert main(["commands", folder.id, "--runs", str(folder.path.parent)]) == 0
    assert "  Ollama (run): ollama run tone" in capsys.readouterr().out
    state = RunState()
    for one in (
        event("RunStarted", name="Toy", nodes=[]),
        made,
        event("RunFinished", status="completed"),
    ):
        state.apply(one)
    print_results(RunFolder(folder.path), state, "completed")
    out = capsys.readouterr().out
    assert "Commands for Ollama, llama.cpp: " in out
    assert f" commands {folder.id} --runs " in out


def test_nothing_to_run_and_no_such_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = toy_run(tmp_path)
    runs = str(folder.path.parent)
    assert main(["commands", folder.id, "--runs", runs]) == 2
    assert "contains nothing that other programs run" in capsys.readouterr().err
    assert main(["commands", "no-such", "--runs", runs]) == 2
    assert "There is no run “no-such”" in capsys.readouterr().err
