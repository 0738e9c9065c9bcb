"""GGUF files written in the layout of LM Studio, into its own folder for models or below a chosen one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.export_folder import lm_studio
from studio.graph.graph import Graph, Node, Wire
from studio.graph.problems import find_problems
from studio.graph.registry import load_registry
from studio.node_settings.export import ExportSettings
from studio.training.export.make import export
from tests.studio.training.gguf_models import FAMILIES, save_noisy
from tests.studio.training.steps import Recorder, make_context, model_value

pytestmark = pytest.mark.usefixtures("quiet_transformers")


def written(root: Path, **more: Any) -> Path:
    value = model_value(save_noisy(root / "model", *FAMILIES["llama"]))
    context = make_context(root / "out", Recorder())
    context.project_name = "Small talk"
    own = {"quantizations": ["F16", "Q8_0"], "layout": "lm_studio", **more.pop("own", {})}
    settings = ExportSettings(check_rows=0, format="gguf", format_settings=own, **more)
    export(context, value.to_json(), settings)
    return Path(context.artifacts[0]["path"])


def test_into_the_folder_of_lm_studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that its settings name; a second export replaces the first."""
    home, models = tmp_path / "home", tmp_path / "big disk" / "models"
    (home / ".lmstudio").mkdir(parents=True)
    named = json.dumps({"downloadsFolder": str(models)})
    (home / ".lmstudio" / "settings.json").write_text(named, encoding="utf-8")
    monkeypatch.setattr(Path, "home", lambda: home)
    folder = written(tmp_path)
    assert folder == models / "lora-studio" / "Small-talk-GGUF"
    files = sorted(p.name for p in folder.glob("*.gguf"))
    assert files == ["Small-talk-F16.gguf", "Small-talk-Q8_0.gguf"]
    assert (
        lm_studio.place_for(folder / files[1], models) == folder / files[1]
    )  # as “Use In” adds it
    assert written(tmp_path / "again", own={"quantizations": ["Q8_0"]}) == folder
    assert [p.name for p in folder.glob("*.gguf")] == ["Small-talk-Q8_0.gguf"]
    assert [p.name for p in folder.parent.iterdir()] == ["Small-talk-GGUF"]


def test_below_a_chosen_folder(tmp_path: Path) -> None:
    """Beside what is there already."""
    chosen = tmp_path / "for the laptop"
    chosen.mkdir()
    (chosen / "other.txt").write_text("kept", encoding="utf-8")
    folder = written(tmp_path, folder=str(chosen), own={"publisher": "ann"})
    assert folder == chosen / "ann" / "Small-talk-GGUF"
    assert (chosen / "other.txt").read_text(encoding="utf-8") == "kept"


def problems(tmp_path: Path, source: str = "merge", **settings: Any) -> dict[str, str]:
    nodes = (
        Node("base", "base_model", {"model": "starter:smollm2-135m"}),
        Node("lora", "lora"),
        Node("train", "train"),
        Node("merge", "merge"),
        Node("export", "export", {"format": "gguf", **settings}),
    )
    wires = [
        Wire("base", "model", "lora", "model"),
        Wire("lora", "model", "train", "model"),
        Wire("train", "adapter", "merge", "adapter"),
        Wire(source, "model" if source == "merge" else "adapter", "export", "model"),
    ]
    found = find_problems(Graph("P", nodes, tuple(wires)), load_registry(), tmp_path)
    return {p.code: f"{p.sentence} {p.hint}" for p in found if p.node == "export"}


def test_what_cannot_be_is_said_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"format_settings": {"layout": "lm_studio"}}
    monkeypatch.setattr(lm_studio, "models_folder", lambda home=None: None)
    missing = problems(tmp_path, **own)["no_lm_studio"]
    assert "LM Studio was not found" in missing
    assert "choose a Folder" in missing
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "other.txt").touch()
    assert "no_lm_studio" not in problems(tmp_path, folder="models", **own)
    assert "folder_not_empty" not in problems(tmp_path, folder="models", **own)
    assert "folder_not_empty" in problems(tmp_path, folder="models")
    told = problems(tmp_path, "train", folder="models", **own)["lm_studio_adapter"]
    assert "Merge the adapter" in told
    wrong = {"layout": "lm_studio", "publisher": "../up"}
    assert "publisher must consist" in problems(tmp_path, format_settings=wrong)["invalid_setting"]
