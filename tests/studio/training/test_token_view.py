"""Rows shown as tokens: the same ids and labels as in a training, and what each token stands for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from studio.chat_templates import library
from studio.chat_templates import template as library_template
from studio.errors import StudioError
from studio.preview.tokens import TokenRow, row_from_json
from studio.training.data.source_order import SourceOrder
from studio.training.data_host.token_view import MOST_CUT, SourceRow, view_rows
from studio.training.tokens.chat import TemplateRefused
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.spans import Conversation, turn_start
from tests.studio.training.test_data import (
    COUNTS,
    FORGETS_THOUGHTS,
    STRICT,
    ids,
    messages,
    single_turns,
    tokenized,
    with_template,
    word_tokenizer,
    write,
)
from tests.tiny import END_ID, START_ID, make_tiny_tokenizer


def view(
    rows: Sequence[dict[str, Any]],
    tokenizer: Any = None,
    *,
    max_length: int = 500,
    train_on: str = "answers",
) -> list[TokenRow]:
    encoder = Encoder(tokenizer or make_tiny_tokenizer(), max_length, train_on)
    full = [{"source": "rows.jsonl", "line": n, **row} for n, row in enumerate(rows, start=1)]
    return view_rows("Train", encoder, [SourceRow(r["line"], "train", r) for r in full])


def texts(row: TokenRow, state: str) -> str:
    """What the tokens of one state say together."""
    return "".join(t.text for t in row.tokens if t.state == state)


def columns(row: TokenRow) -> tuple[list[int], list[int]]:
    """What a training gets of the row."""
    return [t.id for t in row.kept], [t.label for t in row.kept]


# ------------------------------------------------------------------ golden rows


def test_golden_two_turns() -> None:
    (row,) = view([{"messages": messages("s:x", "u:a", "a:b", "u:c", "a:d")}])
    assert texts(row, "trained") == "b<|im_end|>\nd<|im_end|>\n"
    assert "".join(t.text for t in row.tokens) == row.text
    assert (row.number, row.source, row.line, row.split) == (1, "rows.jsonl", 1, "train")
    assert (row.count("cut"), row.left_out, row.part, row.parts) == (0, False, 1, 1)
    said = {r.role + row.tokens[r.after - 3].text: (r.first, r.after) for r in row.roles}
    assert said == {
        "systemx": (0, 11),
        "usera": (11, 20),
        "assistantb": (20, 34),
        "userc": (34, 43),
        "assistantd": (43, 57),
    }
    assert len(row.tokens) == 57
    assert [t.text for t in row.tokens if t.special] == ["<|im_start|>", "<|im_end|>"] * 5


def test_golden_truncated_row_in_figures() -> None:
    (row,) = view([{"messages": messages("u:a", "a:b")}], max_length=21)
    assert columns(row) == (
        [1, 87, 85, 71, 84, 201, 67, 2, 201, 1, 67, 85, 85, 75, 85, 86, 67, 80, 86, 201, 68],
        [-100] * 20 + [68],
    )
    assert (texts(row, "trained"), texts(row, "cut")) == ("b", "<|im_end|>\n")
    (lost,) = view([{"messages": messages("u:a", "a:b")}], max_length=20)
    assert lost.left_out
    assert (lost.count("cut"), lost.count("trained"), lost.count("context")) == (3, 0, 20)


def test_of_a_giant_row_the_cut_tokens_are_counted_and_few_are_shown() -> None:
    words = "many words " * 20_000
    (row,) = view([{"messages": messages("u:a", f"a:{words}")}], max_length=50)
    assert len(row.kept) == 50
    assert len(row.tokens) == 50 + MOST_CUT
    assert row.count("cut") > 50_000
    assert "".join(t.text for t in row.tokens) == row.text
    assert len(json.dumps(row.to_json())) < 500_000


def test_golden_text_and_completion() -> None:
    text, raw = view([{"text": "ab"}, {"prompt": "ab", "completion": "cd"}])
    assert columns(text) == ([*ids("ab"), END_ID], [*ids("ab"), END_ID])
    assert texts(text, "context") == "a"  # nothing stands before it to predict it from
    assert texts(text, "trained") == "b<|im_end|>"
    assert (text.tokens[-1].start, text.tokens[-1].end) == (2, 2)
    assert texts(raw, "trained") == "cd<|im_end|>"
    assert [(r.role, r.first, r.after) for r in raw.roles] == [
        ("prompt", 0, 2),
        ("completion", 2, 5),
    ]


def test_train_on_all() -> None:
    (row,) = view([{"messages": messages("u:a", "a:b")}], train_on="all")
    got, labels = columns(row)
    assert got == labels
    assert [t.state for t in row.tokens] == ["context"] + ["trained"] * (len(got) - 1)


def test_characters_of_several_tokens_and_tokens_of_several_characters() -> None:
    (row,) = view([{"text": "ü雪a"}])
    assert [(t.text, t.start, t.end) for t in row.tokens] == [
        ("�", 0, 1),
        ("�", 0, 1),
        ("�", 1, 2),
        ("�", 1, 2),
        ("�", 1, 2),
        ("a", 2, 3),
        ("<|im_end|>", 3, 3),
    ]
    (words,) = view([{"prompt": "the definition:\n", "completion": "\nbird"}], word_tokenizer())
    assert "".join(t.text for t in words.tokens[:-1]) == words.text
    assert texts(words, "trained") == "\nbird<|im_end|>"


def test_a_conversation_that_becomes_one_row_per_answer() -> None:
    chat = [{"messages": messages("u:a", "a:b", "u:c", "a:d")}]
    rows = view(chat, with_template(FORGETS_THOUGHTS))
    assert [(r.number, r.part, r.parts) for r in rows] == [(1, 1, 2), (1, 2, 2)]
    assert [texts(r, "trained") for r in rows] == [
        f"<think></think>{a}<|im_end|>" for a in ("b", "d")
    ]
    assert [len(r.roles) for r in rows] == [2, 0]  # the second one rewrites earlier text


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
OWN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nBe kind.<|im_end|>\n' }}{% endif %}"
    + CHATML
)
OF_ITS_OWN = "<|im_start|>system\nBe kind.<|im_end|>\n"


def said_by(row: TokenRow) -> list[tuple[str, str]]:
    """Who says what, with what nobody says first."""
    spans = [("", 0, row.inserted), *((r.role, r.first, r.after) for r in row.roles)]
    return [(role, "".join(t.text for t in row.tokens[a:b])) for role, a, b in spans]


def test_a_system_prompt_that_the_template_puts_in_is_not_the_users() -> None:
    chat = [{"messages": messages("u:a", "a:b", "u:c", "a:d")}]
    (row,), (plain,) = view(chat, with_template(OWN_SYSTEM)), view(chat, with_template(CHATML))
    turns = [
        (role, f"<|im_start|>{role}\n{text}<|im_end|>\n")
        for role, text in (("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"))
    ]
    assert said_by(row) == [("", OF_ITS_OWN), *turns]
    assert said_by(plain) == [("", ""), *turns]
    assert columns(row)[1][-len(plain.kept) :] == columns(plain)[1]
    assert texts(row, "trained") == texts(plain, "trained")
    own = [{"messages": messages("s:x", "u:a", "a:b")}]
    (given,) = view(own, with_template(OWN_SYSTEM))
    assert given.roles[0].role == "system"
    assert given.inserted == 0


def test_a_start_token_alone_stays_with_the_first_message() -> None:
    (row,) = view([{"messages": messages("u:a", "a:b")}], with_template(STRICT))
    assert row.inserted == 0
    assert [r.role for r in row.roles] == ["user", "assistant"]


QUESTION, ANSWER = {"role": "user", "content": "What now?"}, {"role": "assistant", "content": "Go."}
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": "Looks.",
            "parameters": {"type": "object", "properties": {}},
        },
    }
]


@pytest.mark.parametrize(
    ("template", "tools", "begin"),
    [
        ("qwen-2.5", None, "<|im_start|>user\nWhat now?"),
        ("qwen-2.5", TOOLS, "<|im_start|>user\nWhat now?"),
        ("qwen-3", TOOLS, "<|im_start|>user\nWhat now?"),
        ("vicuna", None, "USER: What now?"),
        ("alpaca", None, "### Instruction:\nWhat now?"),
    ],
)
def test_what_well_known_templates_put_in(template: str, tools: Any, begin: str) -> None:
    talk = Conversation(with_template(library_template(template).source), [QUESTION, ANSWER], tools)
    start = turn_start(talk)
    assert start > 0
    assert talk.text()[start:].startswith(begin)


@pytest.mark.parametrize("template", [t.id for t in library()])
def test_no_template_has_the_first_message_cut(template: str) -> None:
    for said in (
        [QUESTION, ANSWER],
        [{"role": "system", "content": "Be brief."}, QUESTION, ANSWER],
    ):
        talk = Conversation(with_template(library_template(template).source), said)
        try:
            text = talk.text()
        except TemplateRefused:
            continue
        start = turn_start(talk)
        assert start <= text.index(said[0]["content"])
        assert said[0]["content"] not in text[:start]


def test_a_refused_row_is_named_as_in_a_training() -> None:
    rows = [{"messages": messages("u:a", "a:b")}, {"messages": messages("s:x", "u:a", "a:b")}]
    with pytest.raises(StudioError, match=r"Train: .*line 2: System role not supported"):
        view(rows, with_template(STRICT))
    with pytest.raises(StudioError) as caught:
        view([{"messages": messages("u:a", "a:b", "u:c", "a:d")}], with_template(COUNTS))
    assert caught.value.code == "unstable_template"


def test_bos_that_the_tokenizer_adds_stands_for_no_characters() -> None:
    from tokenizers import processors

    tokenizer = make_tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", START_ID)]
    )
    (row,) = view([{"text": "ab"}], tokenizer)
    assert [(t.text, t.start, t.end) for t in row.tokens] == [
        ("<|im_start|>", 0, 0),
        ("a", 0, 1),
        ("b", 1, 2),
        ("<|im_end|>", 2, 2),
    ]


def blank_first_tokenizer() -> Any:
    """Writes blanks as ``▁`` and puts one before each text, as Llama's first tokenizers do."""
    from tokenizers import Tokenizer, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = ["<unk>", "</s>", "▁", *"abcdei", "▁a", "▁b"]
    core = Tokenizer(models.BPE({t: i for i, t in enumerate(letters)}, [("▁", "a"), ("▁", "b")]))
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="</s>")


def test_blanks_that_a_tokenizer_writes_its_own_way() -> None:
    (row,) = view([{"prompt": "c a", "completion": " b"}], blank_first_tokenizer())
    assert [(t.text, t.start, t.end, t.state) for t in row.tokens] == [
        ("▁", 0, 1, "context"),
        ("c", 0, 1, "context"),
        (" a", 1, 3, "context"),
        (" b", 3, 5, "trained"),
        ("</s>", 5, 5, "trained"),
    ]


# ------------------------------------------------------------------ against a training


@pytest.mark.parametrize("train_on", ["answers", "all"])
@pytest.mark.parametrize("make", [make_tiny_tokenizer, word_tokenizer])
def test_every_row_is_what_a_training_gets(make: Any, train_on: str, tmp_path: Path) -> None:
    tokenizer = make()
    rows: list[dict[str, Any]] = [{"messages": t} for t in single_turns(40)]
    rows += [{"text": t} for t in ("a", "ü 雪 🙂", "<|im_start|>x<|im_end|>", " b\n\nc ")]
    rows += [{"prompt": "a ", "completion": " b"}, {"prompt": "the:\n", "completion": "\nbird"}]
    rows += [{"messages": messages("s:x", "u:a", "a:b", "u:d")}]
    tokens = tokenized(tmp_path, rows, tokenizer, max_length=70, train_on=train_on)
    shown = view(rows, tokenizer, max_length=70, train_on=train_on)
    expected = [(r["input_ids"], r["labels"]) for r in tokens.train]
    assert [columns(r) for r in shown if not r.left_out] == expected
    assert sum(r.count("trained") for r in shown) == tokens.counts.trained
    assert [row_from_json(r.to_json()) for r in shown] == shown


def test_rows_come_in_the_order_of_the_file(tmp_path: Path) -> None:
    from studio.data.split.hashing import held_out_by_count

    rows = [{"text": f"row {n}"} for n in range(1, 31)]
    mask = held_out_by_count(30, 6, 5)
    split = [r for r, out in zip(rows, mask, strict=True) if not out]
    split += [r for r, out in zip(rows, mask, strict=True) if out]
    order = SourceOrder(write(tmp_path, split, 6), 5)
    found = list(order.rows(1, 30))
    assert [r.row["text"] for r in found] == [r["text"] for r in rows]
    assert [r.split == "validation" for r in found] == list(mask)
    assert [r.number for r in order.rows(7, 9)] == [7, 8, 9]
    unknown = SourceOrder(write(tmp_path / "other", split, 6), None)
    assert [r.row["text"] for r in unknown.rows(1, 30)] == [r["text"] for r in split]
