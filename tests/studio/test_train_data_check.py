"""What the Train node says about its data settings before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Problem
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.base_model import BaseModelSettings
from studio.node_settings.dataset import DatasetSettings
from studio.node_settings.train import TrainSettings
from studio.nodes.train import check, check_data
from studio.preview.report_cache import report_key


def problems(
    project: Path, *, format: str = "auto", model: str = "", **settings: Any
) -> list[Problem]:
    upstream = {
        "data": ("dataset", DatasetSettings(source="a.jsonl", format=format)),
        "base": ("base_model", BaseModelSettings(model=model or "no/where")),
    }
    variants = load_registry().variants
    context = CheckContext("train", "Tune", project, upstream=upstream, variants=variants)
    return list(check_data(TrainSettings(**settings), context))


def model_folder(folder: Path, template: str | None) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(
        json.dumps({"model_type": "llama", "vocab_size": 9}), encoding="utf-8"
    )
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return str(folder)


def test_the_usual_settings_are_fine(tmp_path: Path) -> None:
    assert problems(tmp_path) == []
    assert problems(tmp_path, format="messages", chat_template="chatml") == []


@pytest.mark.parametrize("format", ["preference", "kto"])
def test_rows_for_another_objective_block_the_run(tmp_path: Path, format: str) -> None:
    (problem,) = problems(tmp_path, format=format)
    assert problem.blocks
    assert (problem.field, problem.code) == ("objective", "wrong_shape")
    assert "which supervised fine-tuning does not use" in problem.sentence


def test_rows_for_another_objective_are_seen_by_their_columns(tmp_path: Path) -> None:
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert [p.code for p in problems(tmp_path)] == ["wrong_shape"]
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b c d"}\n', encoding="utf-8")
    assert problems(tmp_path) == []


def test_a_custom_template_must_be_there_and_well_written(tmp_path: Path) -> None:
    (empty,) = problems(tmp_path, chat_template="custom")
    (wrong,) = problems(tmp_path, chat_template="custom", custom_template="a\n{% for m in %}")
    assert (empty.field, empty.blocks) == ("custom_template", True)
    assert "has a syntax error in line 2" in wrong.sentence
    assert problems(tmp_path, chat_template="custom", custom_template="{{ messages }}") == []


def test_a_report_of_rows_that_have_changed_since_is_not_found(tmp_path: Path) -> None:
    """Its key goes by the size and time of the files, so an edit needs another report."""
    file = tmp_path / "a.jsonl"
    upstream = {"data": ("dataset", DatasetSettings(source="a.jsonl"))}
    keys = []
    for text in ("a", "a", "a longer one"):
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            file.write_text(text, encoding="utf-8")
        keys.append(report_key(TrainSettings(), upstream, tmp_path))
    assert keys[0] == keys[1] != keys[2]


def test_another_template_than_the_models_is_a_warning(tmp_path: Path) -> None:
    own = model_folder(tmp_path / "own", "{{ messages }}")
    (warning,) = problems(tmp_path, model=own, chat_template="gemma")
    assert not warning.blocks
    assert (warning.field, warning.code) == ("chat_template", "other_template")
    assert "that of Gemma" in warning.sentence
    assert problems(tmp_path, model=own) == []
    none = model_folder(tmp_path / "none", None)
    assert problems(tmp_path, model=none, chat_template="gemma") == []


@pytest.mark.parametrize(
    ("settings", "codes"),
    [
        ({"early_stopping": 3, "keep": "last"}, ["early_stopping_keeps_last"]),
        ({"early_stopping": 3, "keep": "best"}, []),
        ({"early_stopping": 0, "keep": "last"}, []),
    ],
)
def test_early_stopping_that_keeps_the_last_weights_is_a_warning(
    tmp_path: Path, settings: dict[str, Any], codes: list[str]
) -> None:
    context = CheckContext("train", "Tune", tmp_path, variants=load_registry().variants)
    found = list(check(TrainSettings(**settings), context))
    assert [p.code for p in found] == codes
    assert not any(p.blocks for p in found)
