"""Damaged rows in a whole file: each gives one sentence with file, true line, column and what to do.

The check of the graph and the step say the same. Rows that are odd but can be learnt are in
``test_odd_rows``.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from studio.chat_templates import render
from studio.chat_templates.process import HelperEnded
from studio.errors import Problem, StudioError, errors_of
from studio.graph.node_type import CheckContext
from studio.graph.registry import load_registry
from studio.nodes.dataset import check
from tests.faults.row_files import (
    ASK,
    CHOICES,
    GOOD,
    LINE,
    LOOP,
    TELL,
    said,
    settings_of,
    talk,
    write,
)


@dataclasses.dataclass(frozen=True)
class Bad:
    """A row in a format, and what the user is told: the code, and words of the sentence."""

    name: str
    format: str
    row: dict[str, Any]
    code: str
    words: tuple[str, ...]
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    field: str = "source"


def call(**more: Any) -> dict[str, Any]:
    return talk(ASK, said("assistant", None, tool_calls=[more]))


DEEP: dict[str, Any] = {}
for _ in range(600):
    DEEP = {"a": DEEP}
TABLE = [
    Bad(
        "unknown-role",
        "messages",
        talk(said("narrator", "a"), TELL),
        "unknown_role",
        ("'narrator'", "message 1"),
    ),
    Bad(
        "role-null", "messages", talk(said(None, "a"), TELL), "unknown_role", ("None", "message 1")
    ),
    Bad("role-number", "messages", talk(said(7, "a"), TELL), "unknown_role", ("7",)),
    Bad(
        "no-answer",
        "messages",
        talk(ASK, ASK),
        "no_answer",
        ("none of its 2 messages", "assistant"),
    ),
    Bad("only-system", "messages", talk(said("system", "a")), "no_answer", ("assistant",)),
    Bad("no-messages", "messages", talk(), "no_answer", ("0 messages",)),
    Bad("null-list", "messages", {"messages": None}, "not_messages", ("“messages”", "null")),
    Bad("text-for-list", "messages", {"messages": "hello"}, "not_messages", ("no list", "text")),
    Bad(
        "cut-json-text",
        "messages",
        {"messages": '[{"role": "user", "con'},
        "not_messages",
        ("no list",),
    ),
    Bad("object-for-list", "messages", {"messages": ASK}, "not_messages", ("an object",)),
    Bad(
        "nested-list",
        "messages",
        {"messages": [[ASK, TELL]]},
        "not_messages",
        ("not contain an object in message 1",),
    ),
    Bad("text-messages", "messages", {"messages": ["a", 1]}, "not_messages", ("message 1",)),
    Bad(
        "null-content",
        "messages",
        talk(ASK, said("assistant", None)),
        "empty_content",
        ("message 2", "null"),
    ),
    Bad(
        "empty-answer",
        "messages",
        talk(ASK, said("assistant", "")),
        "empty_content",
        ("message 2", "empty"),
    ),
    Bad(
        "no-content",
        "messages",
        talk(ASK, {"role": "assistant"}),
        "missing_column",
        ("no key “content”", "message 2"),
    ),
    Bad(
        "flag-content",
        "messages",
        talk(said("user", True), TELL),
        "not_text",
        ("true or false", "message 1"),
    ),
    Bad(
        "object-content", "messages", talk(said("user", {"x": 1}), TELL), "not_text", ("an object",)
    ),
    Bad(
        "image",
        "messages",
        talk(said("user", [{"type": "image_url", "image_url": {"url": "x"}}]), TELL),
        "not_text",
        ("'image_url'", "message 1", "part 1"),
    ),
    Bad(
        "audio-second",
        "messages",
        talk(said("user", [{"type": "text", "text": "a"}, {"type": "input_audio"}]), TELL),
        "not_text",
        ("'input_audio'", "part 2"),
    ),
    Bad(
        "list-in-list",
        "messages",
        talk(said("user", [["a"]]), TELL),
        "not_text",
        ("a list", "part 1"),
    ),
    Bad(
        "no-parts",
        "messages",
        talk(said("user", []), TELL),
        "empty_content",
        ("message 1", "empty"),
    ),
    Bad(
        "negative-weight",
        "messages",
        talk(ASK, {**TELL, "weight": -1}),
        "bad_weight",
        ("-1", "message 2"),
    ),
    Bad("text-weight", "messages", talk(ASK, {**TELL, "weight": "1"}), "bad_weight", ("'1'",)),
    Bad("flag-weight", "messages", talk(ASK, {**TELL, "weight": True}), "bad_weight", ("True",)),
    Bad("huge-weight", "messages", talk(ASK, {**TELL, "weight": 1e300}), "bad_weight", ("1e+300",)),
    Bad(
        "train-text",
        "messages",
        talk(ASK, {**TELL, "train": "no"}),
        "bad_weight",
        ("“train”", "'no'"),
    ),
    Bad(
        "torn-arguments",
        "messages",
        call(function={"name": "f", "arguments": '{"a": '}),
        "bad_tool_call",
        ("not valid JSON", "message 2"),
    ),
    Bad(
        "list-arguments",
        "messages",
        call(function={"name": "f", "arguments": "[1]"}),
        "bad_tool_call",
        ("a list", "“f”"),
    ),
    Bad(
        "nameless-call",
        "messages",
        call(function={"arguments": "{}"}),
        "bad_tool_call",
        ("name of the tool",),
    ),
    Bad(
        "number-call",
        "messages",
        talk(ASK, said("assistant", "", tool_calls=7)),
        "bad_tool_call",
        ("a number",),
    ),
    Bad(
        "half-in-call",
        "messages",
        call(name="f", arguments={"a": "\ud800"}),
        "bad_character",
        ("surrogate",),
    ),
    Bad(
        "deep-arguments",
        "messages",
        call(name="f", arguments=DEEP),
        "bad_tool_call",
        ("nested too deeply",),
    ),
    Bad(
        "torn-tools",
        "messages",
        talk(ASK, TELL, tools="[{"),
        "bad_tool_call",
        ("“tools”", "not valid JSON"),
    ),
    Bad(
        "nameless-tool",
        "messages",
        talk(ASK, TELL, tools=[{"x": 1}]),
        "bad_tools",
        ("tool 1", "“tools”"),
    ),
    Bad("number-tools", "messages", talk(ASK, TELL, tools=5), "bad_tools", ("a number", "“tools”")),
    Bad(
        "half-name", "messages", talk({**ASK, "name": "\ud800"}, TELL), "bad_character", ("“name”",)
    ),
    Bad("gone-column", "messages", {"text": "a"}, "missing_column", ("“messages”", "text")),
    Bad(
        "torn-call",
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "a"},
                {"from": "function_call", "value": "weather(Oslo)"},
            ]
        },
        "bad_tool_call",
        ("message 2", "not valid JSON"),
    ),
    Bad(
        "speaker",
        "sharegpt",
        {"conversations": [{"from": "alice", "value": "a"}]},
        "unknown_role",
        ("'alice'",),
    ),
    Bad(
        "no-value",
        "sharegpt",
        {"conversations": [{"from": "human", "text": "a"}]},
        "missing_column",
        ("no key “value”", "from, text"),
    ),
    Bad(
        "system-number",
        "sharegpt",
        {**GOOD["sharegpt"], "system": [["a"], ["b"]]},
        "not_text",
        ("“system”", "a list"),
    ),
    Bad(
        "list-instruction",
        "instruction",
        {"instruction": ["a"], "output": "b"},
        "not_text",
        ("“instruction”",),
    ),
    Bad(
        "null-output",
        "instruction",
        {"instruction": "a", "output": None},
        "empty_content",
        ("“output”", "null"),
    ),
    Bad(
        "gone-output",
        "instruction",
        {"instruction": "a", "input": "b"},
        "missing_column",
        ("“output”",),
    ),
    Bad(
        "triple",
        "instruction",
        {**GOOD["instruction"], "history": [["a", "b"], ["a", "b", "c"]]},
        "bad_history",
        ("3 texts", "turn 2", "“history”"),
    ),
    Bad(
        "flat-history",
        "instruction",
        {**GOOD["instruction"], "history": ["a", "b", "c"]},
        "bad_history",
        ("text", "turn 1"),
    ),
    Bad(
        "text-history",
        "instruction",
        {**GOOD["instruction"], "history": "before"},
        "bad_history",
        ("“history”",),
    ),
    Bad(
        "null-in-pair",
        "instruction",
        {**GOOD["instruction"], "history": [["a", None]]},
        "empty_content",
        ("turn 1 of column “history”",),
    ),
    Bad(
        "list-prompt",
        "prompt_completion",
        {"prompt": [1, 2], "completion": "b"},
        "not_text",
        ("“prompt”", "a list"),
    ),
    Bad(
        "no-reply",
        "prompt_completion",
        {"prompt": "a", "completion": [ASK]},
        "no_answer",
        ("assistant",),
    ),
    Bad(
        "chat-as-text",
        "prompt_completion",
        {"prompt": [ASK], "completion": "b"},
        "needs_template",
        ("“prompt”", "chat template"),
        {"chat_template": False},
    ),
    Bad(
        "other-name",
        "prompt_completion",
        {"Prompts": "a", "completion": "b"},
        "missing_column",
        ("“prompt”", "Prompts, completion"),
    ),
    Bad(
        "half",
        "prompt_completion",
        {"prompt": "a\ud83d", "completion": "b"},
        "bad_character",
        ("“prompt”", "position 2"),
    ),
    Bad(
        "index-out",
        "question_answer",
        {**GOOD["question_answer"], "answer": 2},
        "bad_answer",
        ("choice 2", "from 0 to 1", "“answer”"),
    ),
    Bad(
        "index-below",
        "question_answer",
        {**GOOD["question_answer"], "answer": 0},
        "bad_answer",
        ("choice 0", "from 1 to 2"),
        {"first_number": 1},
    ),
    Bad(
        "letter-out",
        "question_answer",
        {**GOOD["question_answer"], "answer": "C"},
        "bad_answer",
        ("“C”", "not one of its 2 choices"),
    ),
    Bad(
        "other-text",
        "question_answer",
        {**GOOD["question_answer"], "answer": "fire"},
        "bad_answer",
        ("“fire”",),
    ),
    Bad(
        "null-answer",
        "question_answer",
        {**GOOD["question_answer"], "answer": None},
        "bad_answer",
        ("nothing",),
    ),
    Bad(
        "flag-answer",
        "question_answer",
        {**GOOD["question_answer"], "answer": True},
        "bad_answer",
        ("true or false",),
    ),
    Bad(
        "one-choice",
        "question_answer",
        {**GOOD["question_answer"], "choices": ["ice"]},
        "bad_choices",
        ("1 choices", "“choices”"),
    ),
    Bad(
        "many-choices",
        "question_answer",
        {**GOOD["question_answer"], "choices": list("abcdefghijklmnopqrstuvwxyzö")},
        "bad_choices",
        ("27 choices", "2 to 26"),
    ),
    Bad(
        "labels-short",
        "question_answer",
        {**GOOD["question_answer"], "choices": {"text": CHOICES, "label": ["A"]}},
        "bad_choices",
        ("2 choices with 1 labels",),
    ),
    Bad(
        "null-choice",
        "question_answer",
        {**GOOD["question_answer"], "choices": ["ice", None]},
        "empty_content",
        ("choice 2 of column “choices”",),
    ),
    Bad(
        "text-choices",
        "question_answer",
        {**GOOD["question_answer"], "choices": "ice or sand"},
        "bad_choices",
        ("text",),
    ),
    Bad(
        "squad-none",
        "question_answer",
        {"question": "q", "answers": {"text": [], "answer_start": []}},
        "empty_content",
        ("“answers”",),
    ),
    Bad(
        "number-label",
        "classification",
        {"text": "a", "label": 1},
        "unnamed_label",
        ("label 1", "“label”"),
        field="format_settings.label_names",
    ),
    Bad(
        "label-above",
        "classification",
        {"text": "a", "label": 2},
        "unknown_label",
        ("“2”", "2 label names"),
        {"label_names": ["joy", "woe"]},
    ),
    Bad(
        "label-none",
        "classification",
        {"text": "a", "label": -1},
        "unknown_label",
        ("“-1”",),
        {"label_names": ["joy", "woe"]},
    ),
    Bad(
        "label-other",
        "classification",
        {"text": "a", "label": "Joy"},
        "unknown_label",
        ("“Joy”",),
        {"label_names": ["joy", "woe"]},
    ),
    Bad(
        "label-list",
        "classification",
        {"text": "a", "label": ["joy"]},
        "bad_label",
        ("a list", "“label”"),
    ),
    Bad(
        "label-blank",
        "classification",
        {"text": "a", "label": " "},
        "empty_content",
        ("empty label",),
    ),
    Bad(
        "label-null",
        "classification",
        {"text": "a", "label": None},
        "empty_content",
        ("“label”", "null"),
    ),
    Bad(
        "same-pair",
        "preference",
        {"prompt": "a", "chosen": "b", "rejected": "b"},
        "same_pair",
        ("same answer", "“chosen” and “rejected”"),
    ),
    Bad(
        "empty-chosen",
        "preference",
        {"prompt": "a", "chosen": "", "rejected": "b"},
        "empty_content",
        ("“chosen”",),
    ),
    Bad(
        "gone-rejected",
        "preference",
        {"prompt": "a", "chosen": "b"},
        "missing_column",
        ("“rejected”",),
    ),
    Bad(
        "no-shared",
        "preference",
        {"chosen": "yes", "rejected": "no"},
        "no_prompt",
        ("start differently",),
    ),
    Bad(
        "ends-early",
        "preference",
        {"chosen": [ASK, TELL], "rejected": [ASK]},
        "no_answer",
        ("“rejected”", "it ends"),
    ),
    Bad(
        "other-question",
        "preference",
        {"chosen": [ASK, TELL], "rejected": [said("user", "z"), TELL]},
        "no_answer",
        ("“chosen”", "a message of the user"),
    ),
    Bad(
        "same-talk",
        "preference",
        {"chosen": [ASK, TELL], "rejected": [ASK, TELL]},
        "same_pair",
        ("same answer",),
    ),
    Bad(
        "mixed-pair", "preference", {"chosen": [1], "rejected": "b"}, "not_messages", ("“chosen”",)
    ),
    Bad(
        "number-side",
        "preference",
        {"prompt": "a", "chosen": {"x": 1}, "rejected": "b"},
        "not_text",
        ("an object",),
    ),
    Bad(
        "torn-transcript",
        "preference",
        {"chosen": "Human: a\n\nAssistant:", "rejected": "Human: a\n\nAssistant: b"},
        "empty_content",
        ("turn 2 of column “chosen”",),
    ),
    Bad(
        "label-word",
        "kto",
        {"prompt": "a", "completion": "b", "label": "good"},
        "bad_label",
        ("“good”", "“label”"),
    ),
    Bad(
        "label-two",
        "kto",
        {"prompt": "a", "completion": "b", "label": 2},
        "bad_label",
        ("a number",),
    ),
    Bad("label-gone", "kto", {"prompt": "a", "completion": "b"}, "missing_column", ("“label”",)),
    Bad(
        "label-missing",
        "kto",
        {"prompt": "a", "completion": "b", "label": None},
        "bad_label",
        ("null",),
    ),
    Bad("text-number-list", "text", {"text": [1]}, "not_text", ("“text”", "a list")),
    Bad("text-other", "text", {"body_text": "a"}, "missing_column", ("“text”", "body_text")),
    Bad(
        "custom-column",
        "custom",
        {"prompt": "a", "answer": "b"},
        "missing_column",
        ("“completion”", "answer template", "prompt, answer"),
        field="format_settings.assistant_template",
    ),
    Bad(
        "custom-empty",
        "custom",
        {"prompt": " ", "completion": "b"},
        "empty_content",
        ("question template",),
    ),
    Bad(
        "custom-type",
        "custom",
        {"prompt": {"a": 1}, "completion": "b"},
        "template_failed",
        ("replace",),
        {"user_template": "{{ prompt.replace('a', 'b') }}"},
        "format_settings.user_template",
    ),
    Bad(
        "custom-loop",
        "custom",
        {"prompt": "loop", "completion": "b"},
        "template_too_slow",
        ("2 seconds",),
        {"user_template": "{% if prompt == 'loop' %}" + LOOP + "{% endif %}{{ prompt }}"},
    ),
    Bad(
        "custom-large",
        "custom",
        {"prompt": "x" * 2000, "completion": "b"},
        "template_failed",
        ("1,000,000",),
        {"user_template": "{% for i in range(999) %}{{ prompt }}{% endfor %}"},
        "format_settings.user_template",
    ),
    Bad(
        "custom-power",
        "custom",
        {"prompt": "x", "completion": 9},
        "template_failed",
        ("power",),
        {
            "assistant_template": "{{ 10 ** (10 ** completion) if completion is number else completion }}"
        },
        "format_settings.assistant_template",
    ),
]


def judge(found: Problem, bad: Bad, folder: Path) -> None:
    """One sentence about the right place, and what to do."""
    assert found.code == bad.code, found
    assert found.field == bad.field
    assert found.line == LINE, found.sentence
    assert found.file == str(folder / "rows.jsonl")
    assert found.sentence.startswith(f"Dataset: line {LINE} of rows.jsonl ")
    assert found.sentence.endswith(".")
    assert "\n" not in found.sentence
    assert len(found.sentence) < 1200
    for word in bad.words:
        assert word in found.sentence, found.sentence
    assert found.hint.endswith(".")


def ended_rows(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests from now on whose templates take too long: each costs two seconds."""
    ended: list[str] = []
    exchange = render.PLAIN.exchange

    def counted(request: str) -> Any:
        try:
            return exchange(request)
        except HelperEnded:
            ended.append(request)
            raise

    monkeypatch.setattr(render.PLAIN, "exchange", counted)
    return ended


@pytest.mark.parametrize("bad", TABLE, ids=lambda b: f"{b.format}-{b.name}")
def test_check_and_step_say_the_same(
    bad: Bad, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.training.data.rows import prepare_rows
    from tests.studio.training.steps import Recorder, make_context

    settings = settings_of(bad.format, write(tmp_path, bad.format, bad.row), bad.settings)
    look = CheckContext("data", "Dataset", tmp_path, variants=load_registry().variants)
    ended = ended_rows(monkeypatch)
    (problem,) = check(settings, look)
    assert len(ended) <= 1, "the window waited more than once"
    judge(problem, bad, tmp_path)
    context = make_context(tmp_path, Recorder())
    context.title = "Dataset"
    with pytest.raises(StudioError) as caught, errors_of("Dataset"):
        prepare_rows(context, settings)
    judge(caught.value.problem(), bad, tmp_path)
    assert caught.value.sentence == problem.sentence
    assert not context.artifacts
