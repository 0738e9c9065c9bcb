"""A chat template that rejects every row is a Problem before the run; one that takes a row is none."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.cli import main
from studio.errors import Problem
from studio.graph.project import load_project
from studio.graph.registry import load_registry
from studio.preview import template_check
from studio.runs.plan import compile_plan
from studio.runs.row_check import check_all_rows, is_unchecked
from studio.runs.token_request import token_request
from tests.e2e.studio_cli import write_project
from tests.model_files import write_model
from tests.tiny import CHAT_TEMPLATE

ASKED = [{"role": "user", "content": "say a"}, {"role": "assistant", "content": "a"}]
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
WITHOUT_SYSTEM = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('No system role!') }}{% endif %}"
)


@pytest.fixture(autouse=True)
def _nothing_found(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(template_check, "SECONDS", 0.5)
    template_check._found.clear()
    yield
    template_check._found.clear()


def project(
    folder: Path, template: str = CHAT_TEMPLATE, rows: list[Any] | None = None, **train: Any
) -> Path:
    """A project with a model of which only the files are there that are looked at."""
    model = write_model(folder / "model")
    (model / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "</s>"}}), encoding="utf-8"
    )
    (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    lines = [{"messages": ASKED} for _ in range(5)] if rows is None else rows
    (folder / "rows.jsonl").write_text(
        "".join(json.dumps(r) + "\n" for r in lines), encoding="utf-8"
    )
    data = {"validation_fraction": 0.0, "deduplicate": False}
    return write_project(
        folder / "p.studio", "model", folder / "rows.jsonl", data=data, train=train
    )


def problems(file: Path) -> list[Problem]:
    graph, registry = load_project(file), load_registry()
    check_all_rows(graph, registry, file.parent, 60.0)
    assert not is_unchecked(graph, registry, file.parent)
    found = compile_plan(graph, registry, file.parent).problems
    return [p for p in found if p.code == "template_refuses_all"]


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ raise_exception('Only documents.') }}", "Only documents"),
        ("{{ (10**7)**(10**7) }}", "computes a power that is too large"),
        ("{{ messages[7]['content'] }}", "has no element 7"),
        ("{{ messages[0].parts.text }}", "has no attribute 'parts'"),
        ("{% for m in messages %}", "Unexpected end of template"),
        ("{{ messages | no_filter }}", "No filter named"),
        ("{{ 'a' | center(999999999) }}", "too much memory"),
        (LOOPS, "does not terminate on a row of rows.jsonl: it was stopped"),
    ],
)
def test_a_template_that_rejects_every_row_blocks(template: str, why: str, tmp_path: Path) -> None:
    (problem,) = problems(project(tmp_path, template))
    assert (problem.node, problem.field, problem.blocks) == ("train", "chat_template", True)
    assert "the chat template of the model " in problem.sentence
    assert why in problem.sentence
    assert "\n" not in problem.sentence
    assert problem.hint


def test_it_is_printed_and_a_changed_template_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = project(tmp_path, "{{ raise_exception('no') }}")
    assert main(["check", str(file)]) == 2
    assert "rejects all of the first 5 rows of" in capsys.readouterr().err
    request, _ = token_request(load_project(file), load_registry(), tmp_path)
    assert request is not None  # the rows are shown, with the reason of each
    assert problems(project(tmp_path, CHAT_TEMPLATE)) == []
    (tmp_path / "model" / "chat_template.jinja").unlink()
    config = {"chat_template": "{{ raise_exception('not this one') }}"}
    (tmp_path / "model" / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "not this one" in problems(file)[0].sentence
    named = [{"name": "default", "template": CHAT_TEMPLATE}, {"name": "tool_use", "template": "{{"}]
    (tmp_path / "model" / "tokenizer_config.json").write_text(
        json.dumps({"chat_template": named, "a": 1}), encoding="utf-8"
    )
    assert problems(file) == []


def test_a_custom_template_is_tried_on_the_rows(tmp_path: Path) -> None:
    custom = {"chat_template": "custom", "custom_template": WITHOUT_SYSTEM + CHAT_TEMPLATE}
    system = {"role": "system", "content": "Be brief."}
    rows = [{"messages": [system, *ASKED]}] * 3
    (problem,) = problems(project(tmp_path, "{{", rows, **custom))
    assert problem.field == "custom_template"
    assert "the custom chat template rejects all of the first 3 rows" in problem.sentence
    assert "No system role" in problem.sentence
    assert problems(project(tmp_path, "{{", [*rows, {"messages": ASKED}], **custom)) == []


def test_arguments_and_special_tokens_reach_the_template(tmp_path: Path) -> None:
    needs = (
        "{% if not mode or eos_token != '</s>' %}{{ raise_exception('no mode') }}{% endif %}"
        + CHAT_TEMPLATE
    )
    assert problems(project(tmp_path, needs))
    assert problems(project(tmp_path, needs, chat_template_kwargs='{"mode": 1}')) == []
    rows = [{"messages": ASKED, "chat_template_kwargs": {"mode": 1}}] * 2
    assert problems(project(tmp_path, needs, rows)) == []


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": "no conversation"}] * 3,
        [
            {
                "messages": [
                    *ASKED,
                    {
                        "role": "assistant",
                        "content": "",
                        "tool_calls": [
                            {"type": "function", "function": {"name": "f", "arguments": {}}}
                        ],
                    },
                ]
            }
        ]
        * 3,
        [],
    ],
    ids=["text", "calls", "none"],
)
def test_what_cannot_be_told_is_left_to_the_run(rows: list[Any], tmp_path: Path) -> None:
    assert problems(project(tmp_path, "{{ raise_exception('no') }}", rows)) == []
