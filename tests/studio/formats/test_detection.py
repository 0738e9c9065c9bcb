"""Which format the files of the wild are taken for, why, and which columns it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.data.check import first_rows
from studio.data.detect import choose_format, column_map, describe_detection, detect
from studio.data.reading.source import SourceRow
from studio.errors import StudioError
from studio.graph.registry import load_registry

FORMATS = load_registry().variants["format"]
SAMPLES = Path(__file__).parents[3] / "assets" / "data"
TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]
OTHER = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "no"}]
GPT = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]
ARC = {"text": ["ice", "sand"], "label": ["A", "B"]}
HH = "\n\nHuman: hi\n\nAssistant: "

WILD: list[tuple[str, str, dict[str, Any]]] = [
    ("alpaca", "instruction", {"instruction": "a", "input": "", "output": "b", "text": "a b"}),
    ("alpaca-no-input", "instruction", {"instruction": "a", "output": "b"}),
    (
        "alpaca-history",
        "instruction",
        {"instruction": "a", "input": "", "output": "b", "system": "", "history": [["c", "d"]]},
    ),
    (
        "dolly",
        "instruction",
        {"instruction": "a", "context": "c", "response": "b", "category": "open_qa"},
    ),
    (
        "oasst-messages",
        "messages",
        {
            "messages": [
                {"role": "prompter", "content": "a"},
                {"role": "assistant", "content": "b"},
            ],
            "message_tree_id": "x",
            "lang": "en",
        },
    ),
    ("ultrachat", "messages", {"prompt": "hi", "prompt_id": "1", "messages": TURNS}),
    (
        "wildchat",
        "messages",
        {"conversation_id": "1", "conversation": TURNS, "language": "English"},
    ),
    ("tools", "messages", {"messages": TURNS, "tools": "[]"}),
    ("json-text", "messages", {"messages": '[{"role": "user", "content": "a"}]'}),
    ("sharegpt", "sharegpt", {"id": "1", "conversations": GPT}),
    ("sharegpt-tools", "sharegpt", {"conversations": GPT, "tools": "[]", "system": "Be brief."}),
    (
        "slimorca",
        "sharegpt",
        {"conversations": [{"from": "system", "value": "s", "weight": None}, *GPT]},
    ),
    ("conversations-of-roles", "messages", {"conversations": TURNS}),
    ("pairs-of-text", "prompt_completion", {"prompt": "a", "completion": "b"}),
    ("trl-conversational", "prompt_completion", {"prompt": TURNS[:1], "completion": TURNS[1:]}),
    ("prompt-response", "prompt_completion", {"prompt": "a", "response": "b"}),
    (
        "openorca",
        "question_answer",
        {"id": "1", "system_prompt": "s", "question": "q", "response": "r"},
    ),
    ("gsm8k", "question_answer", {"question": "q", "answer": "reasons #### 4"}),
    (
        "squad",
        "question_answer",
        {
            "id": "1",
            "title": "t",
            "context": "c",
            "question": "q",
            "answers": {"text": ["a"], "answer_start": [3]},
        },
    ),
    ("boolq", "question_answer", {"question": "q", "answer": True, "passage": "p"}),
    ("arc", "question_answer", {"id": "1", "question": "q", "choices": ARC, "answerKey": "B"}),
    (
        "openbookqa",
        "question_answer",
        {"id": "1", "question_stem": "q", "choices": ARC, "answerKey": "B"},
    ),
    (
        "mmlu",
        "question_answer",
        {"question": "q", "subject": "law", "choices": ["a", "b"], "answer": 1},
    ),
    (
        "hellaswag",
        "question_answer",
        {
            "ind": 4,
            "activity_label": "x",
            "ctx_a": "a",
            "ctx_b": "b",
            "ctx": "a b",
            "endings": ["c", "d"],
            "label": "1",
        },
    ),
    ("medqa", "question_answer", {"question": "q", "options": {"A": "x", "B": "y"}, "answer": "y"}),
    (
        "sciq",
        "question_answer",
        {"question": "q", "distractor1": "x", "correct_answer": "y", "support": "z"},
    ),
    ("imdb", "classification", {"text": "a", "label": 0}),
    ("ag-news", "classification", {"text": "a", "label": 3}),
    ("sst2", "classification", {"idx": 1, "sentence": "a", "label": 1}),
    ("banking", "classification", {"text": "a", "label": 3, "label_text": "card arrival"}),
    ("emotion-names", "classification", {"text": "a", "emotion": "joy"}),
    ("dpo", "preference", {"prompt": "a", "chosen": "b", "rejected": "c"}),
    ("orca-dpo", "preference", {"system": "s", "question": "q", "chosen": "a", "rejected": "b"}),
    ("hh-rlhf", "preference", {"chosen": HH + "yes", "rejected": HH + "no"}),
    (
        "ultrafeedback",
        "preference",
        {
            "prompt": "hi",
            "prompt_id": "1",
            "chosen": TURNS,
            "rejected": OTHER,
            "messages": TURNS,
            "score_chosen": 8.0,
            "score_rejected": 6.0,
        },
    ),
    ("implicit", "preference", {"chosen": TURNS, "rejected": OTHER}),
    ("kto-mix", "kto", {"prompt": TURNS[:1], "completion": TURNS[1:], "label": True}),
    ("kto-text", "kto", {"prompt": "a", "completion": "b", "label": False}),
    ("kto-csv", "kto", {"prompt": "a", "completion": "b", "label": "true"}),
    ("wikitext", "text", {"text": "= Title ="}),
    ("fineweb", "text", {"text": "a", "id": "1", "url": "b", "language_score": 0.9}),
    ("documents", "text", {"content": "a"}),
]


def as_rows(*rows: dict[str, Any]) -> list[SourceRow]:
    return [SourceRow(i, r, 0) for i, r in enumerate(rows, start=1)]


@pytest.mark.parametrize(("name", "wanted", "row"), WILD, ids=[w[0] for w in WILD])
def test_a_row_of_the_wild(name: str, wanted: str, row: dict[str, Any]) -> None:
    del name
    best, sure = detect(as_rows(row), FORMATS)[0]
    assert best.id == wanted
    assert sure.confidence >= 0.5
    assert any(column in sure.reason for column in row)


@pytest.mark.parametrize(("name", "wanted", "row"), WILD, ids=[w[0] for w in WILD])
def test_what_is_detected_can_be_read(name: str, wanted: str, row: dict[str, Any]) -> None:
    """With the defaults; only numbered labels need their names."""
    variant = FORMATS[wanted]
    names = ["a", "b", "c", "d"] if isinstance(row.get("label"), int) else []
    given = {"label_names": names} if wanted == "classification" else {}
    if name in ("json-text",):
        row = {
            "messages": '[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]'
        }
    found = variant.payload.convert(row, variant.settings(**given))
    assert set(found) <= {"messages", "tools", "text", "chosen", "rejected", "label"}
    for message in (*found.get("messages", ()), *found.get("chosen", ())):
        assert set(message) >= {"role", "content"}


@pytest.mark.parametrize(
    "row",
    [
        {"a": 1},
        {"good": "x", "bad": "y", "paradigm": "z"},
        {"messages": [["hi", "yo"]]},
        {"premise": "a", "hypothesis": "b", "label": 0},
        {"chosen": [1, 2], "rejected": [3]},
    ],
)
def test_what_is_not_known_is_not_guessed(row: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="matches no known format") as caught:
        choose_format(tmp_path / "x.jsonl", "auto", {}, as_rows(row), FORMATS)
    assert all(name in caught.value.sentence for name in row)


def test_shipped_samples() -> None:
    for name, wanted in (
        ("wordnet8_train.jsonl", "messages"),
        ("wordnet8_test.jsonl", "messages"),
        ("chatterbot_en_alpaca.jsonl", "instruction"),
    ):
        found = describe_detection(first_rows(SAMPLES / name), FORMATS)
        assert found[0][0] == wanted
        assert found[0][1] == FORMATS[wanted].title


def test_every_format_that_fits_is_told_the_surest_first() -> None:
    row = {"prompt": "hi", "messages": TURNS, "chosen": TURNS, "rejected": OTHER}
    found = describe_detection(as_rows(row), FORMATS)
    assert [f[0] for f in found][:2] == ["preference", "messages"]
    assert found == sorted(found, key=lambda f: -f[2])
    assert all(0 < f[2] <= 1 and f[3] for f in found)


def test_a_close_second_is_named(tmp_path: Path) -> None:
    row = {"prompt": "a", "completion": "b", "label": True}
    chosen = choose_format(tmp_path / "x", "auto", {}, as_rows(row), FORMATS)
    assert chosen.variant.id == "kto"
    assert "“Prompt and completion” also matches" in chosen.reason
    plain = choose_format(tmp_path / "x", "auto", {}, as_rows({"text": "a"}), FORMATS)
    assert "too" not in plain.reason


def test_a_few_damaged_rows_do_not_change_the_format() -> None:
    """They would be read as another format without a word; so they are errors of their own."""
    good = {"prompt": "a", "completion": "b", "label": True}
    for bad in ({**good, "label": None}, {"prompt": "a"}, {**good, "completion": [1]}):
        best, sure = detect(as_rows(*[good] * 19, bad), FORMATS)[0]
        assert best.id == "kto"
        assert "(but not 1 of the first 20 rows)" in sure.reason
    mixed = detect(as_rows(*[good] * 3, *[{**good, "label": "so so"}] * 3), FORMATS)
    assert mixed[0][0].id == "prompt_completion"


def test_values_that_hardly_repeat_are_not_labels() -> None:
    articles = [{"text": f"a long text {i}", "category": f"topic {i}"} for i in range(20)]
    assert detect(as_rows(*articles), FORMATS)[0][0].id == "text"
    labelled = [{**row, "category": f"topic {i % 4}"} for i, row in enumerate(articles)]
    assert detect(as_rows(*labelled), FORMATS)[0][0].id == "classification"


def test_always_the_first_choice_is_said() -> None:
    rows = [{"question": f"q{i}", "choices": ["a", "b"], "answer": 0} for i in range(8)]
    assert "always the first" in detect(as_rows(*rows), FORMATS)[0][1].reason
    rows[3]["answer"] = 1
    assert "always the first" not in detect(as_rows(*rows), FORMATS)[0][1].reason


def mapped(format_id: str, columns: tuple[str, ...], **settings: Any) -> dict[str, Any]:
    variant = FORMATS[format_id]
    return column_map(variant, variant.settings(**settings), columns)


def test_the_column_map_says_what_is_bound_and_what_is_left() -> None:
    assert mapped("instruction", ("instruction", "context", "response", "category")) == {
        "bound": {
            "instruction_column": "instruction",
            "input_column": "context",
            "output_column": "response",
            "system_column": None,
            "history_column": None,
            "tools_column": None,
            "reasoning_column": None,
        },
        "unused": ("category",),
    }
    own = mapped("text", ("text", "story"), text_column="story")
    assert own == {"bound": {"text_column": "story"}, "unused": ("text",)}
    assert mapped("text", ("story",))["bound"] == {"text_column": None}


def test_the_column_map_of_templates() -> None:
    given = {"user_template": "{{ title }} by {{ who }}", "assistant_template": "{{ body }}"}
    found = mapped("custom", ("title", "who", "body", "id"), **given)
    assert found == {"bound": {}, "unused": ("id",)}
    whole = mapped("custom", ("a", "b"), shape="text", text_template="{{ row | tojson }}")
    assert whole["unused"] == ()


@pytest.mark.parametrize("variant", FORMATS.values(), ids=lambda v: v.id)
def test_each_setting_that_names_a_column_is_in_the_map(variant: Any) -> None:
    named = {n for n in variant.settings.model_fields if n.endswith("_column")}
    assert set(variant.payload.columns) == named


def test_a_detected_format_points_at_the_choice_and_a_chosen_one_at_its_setting() -> None:
    row, path = {"text": "a", "label": 1}, Path("rows.jsonl")
    for format_id, field in (("auto", "format"), ("classification", "format_settings.label_names")):
        chosen = choose_format(path, format_id, {}, as_rows(row), FORMATS)
        with pytest.raises(StudioError, match="has the label 1 in") as caught:
            chosen.convert(as_rows(row)[0], path)
        assert caught.value.field == field
