"""End tokens and control tokens that already stand in the data: no second end token, and a finding."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.chat_templates import template
from studio.preview.report import DataReport, apply_fix
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.ends import written_end
from studio.training.tokens.masks import render_row
from tests.studio.training.steps import Recorder
from tests.studio.training.test_data import sentences_of, tokenized, word_tokenizer
from tests.studio.training.test_report import lines_of, report_on
from tests.tiny import CHAT_TEMPLATE, END_ID, make_tiny_tokenizer

END, TEXT_END = "<|im_end|>", "<|endoftext|>"
NO_END = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"


def chat(question: str, *answers: str) -> dict[str, Any]:
    said = [{"role": "user", "content": question}]
    for answer in answers:
        said += [{"role": "assistant", "content": answer}, {"role": "user", "content": "and?"}]
    return {"messages": said[:-1] if answers else said}


def encode(row: dict[str, Any], tokenizer: Any = None, **rules: Any) -> list[int]:
    encoder = Encoder(tokenizer or make_tiny_tokenizer(), 500, **rules)
    (encoded,) = encoder.encode(render_row(encoder.tokenizer, row, encoder.train_on))
    return encoded.ids


def base_tokenizer(source: str = CHAT_TEMPLATE) -> Any:
    """Its end token is not the one that ends a turn of its chat template."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.eos_token = TEXT_END
    tokenizer.chat_template = source
    return tokenizer


# ------------------------------------------------------------------ no second end token


@pytest.mark.parametrize("blanks", ["", "\n", "  ", " \n\n\t"])
@pytest.mark.parametrize("end", [END, TEXT_END])
def test_an_answer_that_ends_itself_is_the_same_as_one_that_does_not(end: str, blanks: str) -> None:
    for tokenizer in (base_tokenizer(), make_tiny_tokenizer()):
        if end == TEXT_END and tokenizer.eos_token != TEXT_END:
            continue  # not an end token there
        written, plain = chat("a", "b" + end + blanks, "c" + end), chat("a", "b", "c")
        assert encode(written, tokenizer) == encode(plain, tokenizer)
        assert written_end(tokenizer, written) == end
        assert not written_end(tokenizer, plain)


@pytest.mark.parametrize("train_on", ["answers", "last_answer", "all"])
@pytest.mark.parametrize("rule", ["auto", "never"])
def test_in_every_mode(train_on: str, rule: str) -> None:
    rules = {"train_on": train_on, "end_token": rule}
    assert encode(chat("a", "b" + END), **rules) == encode(chat("a", "b"), **rules)


def test_two_end_tokens_are_both_removed() -> None:
    assert encode(chat("a", "b" + END + "\n" + END)) == encode(chat("a", "b"))


def test_where_the_template_writes_none_the_one_in_the_data_stays() -> None:
    tokenizer = base_tokenizer(NO_END)
    ids = encode(chat("a", "b" + TEXT_END + " "), tokenizer)
    assert ids.count(tokenizer.eos_token_id) == 1
    assert encode(chat("a", "b"), tokenizer).count(tokenizer.eos_token_id) == 1
    kept = encode(chat("a", "b" + TEXT_END), tokenizer, end_token="never")
    assert kept.count(tokenizer.eos_token_id) == 1


def test_an_end_token_inside_an_answer_or_in_a_question_stays() -> None:
    assert encode(chat("a", f"b{END}c")).count(END_ID) == encode(chat("a", "bc")).count(END_ID) + 1
    assert encode(chat(f"a{END}", "b")).count(END_ID) == encode(chat("a", "b")).count(END_ID) + 1


@pytest.mark.parametrize("name", ["chatml", "llama-2", "zephyr", "phi-3", "alpaca", "vicuna"])
def test_under_other_templates(name: str) -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template(name).source
    assert encode(chat("a", "b" + END + "\n"), tokenizer) == encode(chat("a", "b"), tokenizer)


@pytest.mark.parametrize("blanks", ["", "\n", "  \n"])
@pytest.mark.parametrize("make", [make_tiny_tokenizer, base_tokenizer, word_tokenizer])
def test_a_text_or_completion_that_ends_itself_gets_no_second_one(make: Any, blanks: str) -> None:
    tokenizer = make()
    ends = {tokenizer.convert_tokens_to_ids(t) for t in (END, TEXT_END)}
    for text in ("ab" + str(tokenizer.eos_token), f"<|im_start|>user\nab{END}"):
        for row in ({"text": text + blanks}, {"prompt": "q", "completion": text + blanks}):
            ids = encode(row, tokenizer)
            assert sum(i in ends for i in ids) == 1, (text, ids)
            assert tokenizer.decode(ids).endswith(text + blanks)


def test_raw_text_with_the_rule_always_ends_with_the_end_token_itself() -> None:
    tokenizer = base_tokenizer()
    assert encode({"text": "ab" + END}, tokenizer, end_token="always")[-1] == 0
    assert encode({"text": "ab" + TEXT_END + "\n"}, tokenizer, end_token="always").count(0) == 1
    assert encode({"text": "ab<|im_start|>"}, tokenizer)[-1] == 0, (
        "the start of a turn ends nothing"
    )


def test_a_run_says_how_many_rows_end_themselves(tmp_path: Path) -> None:
    recorder = Recorder()
    rows = [chat("a", "b"), chat("a", "c" + END), chat("b", "d" + END + "\n")]
    tokens = tokenized(tmp_path, rows, recorder=recorder)
    assert (tokens.counts.ended, tokens.counts.first["ended"]) == (2, 2)
    said = "2 rows already end an answer or a text with an end token; no second one is added. The first is line 2."
    assert said in sentences_of(recorder)


# ------------------------------------------------------------------ findings


def report_of(folder: Path, rows: list[Any], **more: Any) -> DataReport:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return report_on(path, **more)


def test_the_report_names_the_rows_that_end_themselves(tmp_path: Path) -> None:
    rows = [chat("one?", "b1"), chat("two?", "c1" + END), chat("three?", "d1" + END + " \n")]
    report = report_of(tmp_path, rows)
    assert lines_of(report) == {"written_end": [2, 3]}
    (found,) = report.findings
    assert (found.severity, found.rows[0].note) == ("info", "ends with “<|im_end|>”")


@pytest.mark.parametrize(
    "row",
    [
        chat("Ignore it.<|im_end|>", "no2"),
        chat("What does <|im_start|> mean?", "a mark"),
        chat("why?", f"because{END}\n<|im_start|>user\nmore"),
        {
            "messages": [
                {"role": "system", "content": f"be {TEXT_END}"},
                *chat("a", "bb")["messages"],
            ]
        },
        chat("why?", "It is <|endoftext|> here, and so on"),
        chat("why? <|im_end|> <|im_end|>", "so 3" + END),
    ],
)
def test_control_tokens_in_a_text_are_found(row: Any, tmp_path: Path) -> None:
    report = report_of(tmp_path, [chat("one?", "b1"), row, chat("three?", "d1")])
    found = {f.code: f for f in report.findings}
    assert [p.line for p in found["control_tokens"].rows] == [2]
    assert found["control_tokens"].severity == "warning"
    assert "<|" in found["control_tokens"].rows[0].note
    assert found["control_tokens"].fix is not None


@pytest.mark.parametrize(
    "text", ["a < b > c", "<b>bold</b>", "<|im_end >", "[INST]", "x <think>y</think> z", "im_end"]
)
def test_other_marks_are_not(text: str, tmp_path: Path) -> None:
    report = report_of(tmp_path, [chat(text, "fine")])
    assert "control_tokens" not in lines_of(report)


def test_plain_text_with_control_tokens(tmp_path: Path) -> None:
    rows = [{"text": f"One.{TEXT_END}Two."}, {"text": "Nothing here."}, {"text": f"Ends.{END}\n"}]
    assert lines_of(report_of(tmp_path, rows)) == {"control_tokens": [1], "written_end": [3]}


# ------------------------------------------------------------------ rendered chat


def rendered(number: int) -> dict[str, str]:
    return {
        "text": f"<|im_start|>user\nWhat is {number}+1?{END}\n"
        f"<|im_start|>assistant\nIt is {number + 1}.{END}\n"
    }


def test_rendered_chat_is_found_and_its_fix_reads_conversations(tmp_path: Path) -> None:
    rows = [rendered(n) for n in range(12)]
    report = report_of(tmp_path, rows)
    found = {f.code: f for f in report.findings}
    assert found["rendered_chat"].severity == "warning"
    assert found["rendered_chat"].count == 12
    assert "control_tokens" not in found, "they belong to the rendered chat"
    fix = found["rendered_chat"].fix
    assert fix is not None
    assert (fix.id, fix.title) == ("read_as_conversations", "Read as conversations")
    changes = {c.setting: c.value for c in fix.changes}
    assert changes == {"format": "rendered_chat"}
    mended = report_on(tmp_path / "rows.jsonl", **changes)
    assert set(lines_of(mended)) <= {"near_duplicate"}
    answers = sum(len(f"It is {n + 1}.{END}\n") - len(END) + 1 for n in range(12))
    assert mended.trained_tokens == answers < report.trained_tokens
    assert mended.tokens == report.tokens, "no second end token before, and none after"


def test_the_fix_keeps_the_column_and_is_one_edit(tmp_path: Path) -> None:
    rows = [{"body": rendered(n)["text"], "id": n} for n in range(4)]
    own = {"text_column": "body"}
    report = report_of(tmp_path, rows, format="text", format_settings=own)
    fix = report.fix("read_as_conversations")
    assert fix is not None
    from studio.graph.graph import Graph, Node

    graph = Graph(nodes=(Node("data", "dataset", {"format": "text", "format_settings": own}),))
    settings = dict(apply_fix(graph, fix).node("data").settings)
    assert (settings["format"], settings["format_settings"]) == ("rendered_chat", own)
    assert report_on(tmp_path / "rows.jsonl", **settings).train_rows == 4


def test_a_few_rendered_rows_among_texts_are_found_without_that_fix(tmp_path: Path) -> None:
    texts = [{"text": f"A plain text, number {n}."} for n in range(5)]
    report = report_of(tmp_path, [*texts, rendered(1)])
    (found,) = (f for f in report.findings if f.code == "rendered_chat")
    assert (found.count, found.rows[0].line, found.fix) == (1, 6, None)


def test_a_row_that_cannot_be_read_is_refused_with_its_line(tmp_path: Path) -> None:
    rows = [rendered(1), {"text": "<|im_start|>user\nOpen"}, rendered(2)]
    report = report_of(tmp_path, rows, format="rendered_chat")
    assert lines_of(report)["bad_row"] == [2]


def test_messages_with_marks_are_no_rendered_texts(tmp_path: Path) -> None:
    report = report_of(tmp_path, [chat("[INST] a [/INST]", "b")])
    assert "rendered_chat" not in lines_of(report)
