"""Bad input in the terminal: one sentence that names node, field, file and line, and exit code 2 or 1.

Each row of the table is a mistake that people make. Nothing may show a bare traceback.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.studio_cli import studio, write_project, write_rows
from tests.tiny import make_tiny_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny model for all."""
    return make_tiny_model(tmp_path_factory.mktemp("model"))


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Change a project file as a person with an editor would."""
    data = json.loads(path.read_text(encoding="utf-8"))
    change(data)
    path.write_text(json.dumps(data), encoding="utf-8")


def empty_rows(project: Path) -> None:
    (project.parent / "rows.jsonl").write_text("", encoding="utf-8")


def missing_rows(project: Path) -> None:
    (project.parent / "rows.jsonl").unlink()


def corrupt_row(project: Path) -> None:
    path = project.parent / "rows.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    lines[6] = lines[6][:-9]
    path.write_text("\n".join(lines), encoding="utf-8")


def missing_column(project: Path) -> None:
    rows = [{"instruction": f"say {i}", "answer": str(i)} for i in range(20)]
    (project.parent / "rows.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8"
    )
    edit(project, lambda d: d["nodes"][0]["settings"].update(format="messages"))


def wrong_target(project: Path) -> None:
    edit(project, lambda d: d["nodes"][2]["settings"].update(target_modules=["q_porj"]))


def impossible_setting(project: Path) -> None:
    edit(project, lambda d: d["nodes"][3]["settings"].update(batch_size=0))


def cycle(project: Path) -> None:
    edit(project, lambda d: d["wires"].append({"from": "merge.model", "to": "lora.model"}))
    edit(project, lambda d: d["wires"].remove({"from": "base.model", "to": "lora.model"}))


def unconnected(project: Path) -> None:
    edit(project, lambda d: d["wires"].remove({"from": "base.model", "to": "lora.model"}))


def unreadable(project: Path) -> None:
    project.write_text('{"format": "lora-studio",\n "version": 1,\n "nodes": [}', encoding="utf-8")


def newer(project: Path) -> None:
    edit(project, lambda d: d.update(version=7))


BAD = {
    missing_rows: ["Dataset", "rows.jsonl", "data", "source"],
    empty_rows: ["rows.jsonl", "empty", "source"],
    corrupt_row: ["rows.jsonl", "line 7", "source"],
    missing_column: ["messages", "instruction", "rows.jsonl"],
    wrong_target: ["LoRA", "q_porj", "q_proj", "target_modules"],
    impossible_setting: ["Train", "Batch size", "0", "at least 1", "batch_size"],
    cycle: ["cycle", "LoRA", "Train", "Merge"],
    unconnected: ["LoRA", "connected", "lora"],
    unreadable: ["talk.studio", "line 3"],
    newer: ["talk.studio", "newer", "7"],
}


@pytest.mark.parametrize("damage", BAD, ids=lambda f: f.__name__)
def test_check_names_the_place(damage: Callable[[Path], None], model: Path, tmp_path: Path) -> None:
    project = write_project(tmp_path / "talk.studio", model, write_rows(tmp_path / "rows.jsonl"))
    assert studio("check", project).code == 0
    damage(project)
    before = project.read_bytes()
    for arguments in (("check", project), ("run", project, "--runs", tmp_path / "runs")):
        result = studio(*arguments)
        text = result.out + result.err
        assert result.code == 2, text
        assert "Traceback" not in text
        assert [w for w in BAD[damage] if w not in text] == [], text
    assert project.read_bytes() == before
    assert not list((tmp_path / "runs").glob("*/events.jsonl"))


def test_a_corrupt_line_far_down_is_named_by_its_true_line(model: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 30_000)
    lines = rows.read_text(encoding="utf-8").splitlines()
    lines[27_154] = "{not json"
    rows.write_text("\n".join(lines), encoding="utf-8")
    project = write_project(tmp_path / "talk.studio", model, rows)
    ran = studio("run", project, "--runs", tmp_path / "runs", "--json")
    assert ran.code == 1, ran.out[-500:] + ran.err[-500:]
    (failed,) = ran.of("StepFailed")
    assert (failed["node"], failed["field"], failed["line"]) == ("data", "source", 27_155)
    assert "rows.jsonl" in failed["sentence"]
    assert "27155" in failed["sentence"].replace(",", "").replace(" ", "")
    assert "trace" not in failed
    assert ran.status == "failed"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--set", "train.learning_rat=1"), ["learning_rat", "learning_rate"]),
        (("--set", "trian.seed=1"), ["trian", "train"]),
        (("--set", "lora.r=many"), ["Rank (r)", "many", "an integer"]),
        (("--sett", "lora.r=8"), ["--sett"]),
    ],
)
def test_bad_arguments(
    arguments: tuple[str, str], words: list[str], model: Path, tmp_path: Path
) -> None:
    project = write_project(tmp_path / "talk.studio", model, write_rows(tmp_path / "rows.jsonl"))
    result = studio("run", project, *arguments)
    assert result.code == 2
    assert [w for w in words if w not in result.out + result.err] == [], result.out + result.err
