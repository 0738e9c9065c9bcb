"""Rows that are odd but can be learnt are taken as they are; templates with a mistake block a run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.chat_templates.render import patience
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.nodes.dataset import check
from tests.faults.row_files import (
    ASK,
    GOOD,
    LINE,
    LOOP,
    TELL,
    said,
    settings_of,
    talk,
    write,
)
from tests.timing import WAIT_S

ROOT = Path(__file__).resolve().parents[2]
TAKEN = [
    ("two-questions", "messages", talk(ASK, ASK, TELL)),
    ("answer-first", "messages", talk(TELL, ASK, TELL)),
    ("result-without-call", "messages", talk(ASK, said("tool", "x"), TELL)),
    ("empty-result", "messages", talk(ASK, said("tool", ""), TELL)),
    ("number-content", "messages", talk(said("user", 7), TELL)),
    ("more-columns", "messages", talk(ASK, TELL, id=1, source=None)),
    ("nul", "prompt_completion", {"prompt": "a\x00b", "completion": "b\x00"}),
    ("giant", "prompt_completion", {"prompt": "x" * 1_000_000, "completion": "b"}),
    ("list-beside-text", "prompt_completion", {"prompt": [ASK], "completion": "b"}),
    ("label-as-text", "kto", {"prompt": "a", "completion": "b", "label": "true"}),
    ("no-choices", "question_answer", {"question": "q", "choices": None, "answer": "b"}),
    ("control", "text", {"text": "a\x1b[31m\x07\u202e"}),
]


PAIR = ["user", "assistant"]
ROLES_OF = {
    "two-questions": ["user", *PAIR],
    "answer-first": ["assistant", *PAIR],
    "result-without-call": ["user", "tool", "assistant"],
    "empty-result": ["user", "tool", "assistant"],
    "control": [],
}


@pytest.mark.parametrize(("name", "format_id", "row"), TAKEN, ids=[t[0] for t in TAKEN])
def test_odd_rows_are_taken_as_they_are(
    name: str, format_id: str, row: dict[str, Any], tmp_path: Path
) -> None:
    from studio.data.canonical import messages_of
    from studio.training.data.arrow import open_rows
    from studio.training.data.rows import prepare_rows
    from tests.studio.training.steps import Recorder, make_context

    settings = settings_of(format_id, write(tmp_path, format_id, row), {})
    look = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    assert list(check(settings, look)) == []
    context = make_context(tmp_path, Recorder())
    value = prepare_rows(context, settings)
    stored = open_rows(Path(value.path) / "train")
    assert stored["line"][:] == [1, 2, 4, LINE, LINE + 1]
    kept = json.dumps(stored[3], ensure_ascii=False)
    for value in (row.get("prompt"), row.get("text")):
        if isinstance(value, str):
            assert json.dumps(value, ensure_ascii=False)[1:-1] in kept
    assert [m["role"] for m in messages_of(stored[3])] == ROLES_OF.get(name, PAIR)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ prompt", "line 1"),
        ("a\n{% for x in %}\n{% endfor %}", "line 2"),
        ("{{ prompt | shout }}", "“shout”"),
    ],
)
def test_a_template_with_a_mistake_blocks_the_run_at_its_field(
    template: str, words: str, tmp_path: Path
) -> None:
    from studio.graph.graph import Graph, Node
    from studio.graph.problems import find_problems

    given = {
        "source": write(tmp_path, "custom", GOOD["custom"]),
        "format": "custom",
        "format_settings": {"user_template": template},
    }
    problems = find_problems(
        Graph("One", (Node("data", "dataset", settings=given),)), load_registry(), tmp_path
    )
    found = [p for p in problems if p.field == "format_settings.user_template"]
    assert len(found) == 1
    assert words in found[0].sentence
    assert found[0].code == "invalid_setting"


def test_a_first_row_that_loops_is_told_by_the_check_in_a_fresh_process(tmp_path: Path) -> None:
    """Nothing is warm there: the check still looks at one row, and ends."""
    given = {
        "source": write(tmp_path, "custom", GOOD["custom"]),
        "format": "custom",
        "format_settings": {"user_template": "{{ prompt }}" + LOOP},
    }
    project = {
        "format": "lora-studio",
        "version": 3,
        "wires": [],
        "nodes": [{"id": "data", "type": "dataset", "settings": given}],
    }
    path = tmp_path / "loop.studio"
    path.write_text(json.dumps(project), encoding="utf-8")
    ran = subprocess.run(
        [sys.executable, str(ROOT / "main.py"), "check", str(path), "--json"],
        capture_output=True,
        encoding="utf-8",
        timeout=WAIT_S,
        check=False,
    )
    assert ran.returncode == 2
    assert "line 1 of rows.jsonl cannot be rendered: the template was stopped" in ran.stdout
    assert "Traceback" not in ran.stdout + ran.stderr


def test_a_second_file_in_another_format_is_told_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"instruction": "a", "output": "b"}\n' * 3, encoding="utf-8")
    (tmp_path / "b.jsonl").write_text('{"text": "c"}\n' * 3, encoding="utf-8")
    look = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    held_out = DatasetSettings(source="a.jsonl", split_mode="file", validation_source="b.jsonl")
    for settings in (DatasetSettings(source="a.jsonl; b.jsonl"), held_out):
        (found,) = check(settings, look)
        assert (found.code, found.line) == ("missing_column", 1)
        assert "line 1 of b.jsonl has no column “instruction”" in found.sentence


def test_a_look_in_a_hurry_waits_less_for_a_template_and_only_warns(tmp_path: Path) -> None:
    """The window stands still during its look; the run gives the template its whole time."""
    given = {
        "source": write(tmp_path, "custom", GOOD["custom"]),
        "format": "custom",
        "format_settings": {"user_template": "{{ prompt }} " + LOOP},
    }
    look = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    with patience(0.3):
        (found,) = check(DatasetSettings(**given), look)
    assert (found.code, found.severity) == ("template_too_slow", "warning")
    assert "stopped after 0.3 seconds" in found.sentence
    (again,) = check(DatasetSettings(**given), look)
    assert (again.severity, "stopped after 2 seconds" in again.sentence) == ("error", True)


def test_a_format_that_is_hardly_sure_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"review": f"a {i}", "category": f"b {i}"} for i in range(20)]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    look = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    (found,) = check(DatasetSettings(source=path.name), look)
    assert (found.severity, found.field, found.code) == ("warning", "format", "unsure_format")
    assert "“Classification”" in found.sentence
    assert list(check(DatasetSettings(source=path.name, format="classification"), look)) == []
