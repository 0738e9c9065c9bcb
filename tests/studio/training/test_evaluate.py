"""The Evaluate step: both models asked the same, and counted honestly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from studio.errors import Stopped, StudioError
from studio.node_settings.evaluate import EvaluateSettings
from studio.training.answer.evaluate import evaluate
from studio.training.answer.generate import Answer, greedy_answers
from studio.training.answer.questions import _question, exact_match
from studio.training.tokens.ends import Ends, turn_end_id
from studio.values import AdapterValue, DatasetValue, ModelValue, ReportValue
from tests.studio.training.adapters import (
    plain_adapted,
    plain_model,
    random_adapter,
    tiny_base,
)
from tests.studio.training.steps import Recorder, make_context, model_value
from tests.studio.training.test_data import FORGETS_THOUGHTS, messages, write
from tests.studio.training.test_merge import merged
from tests.tiny import END_ID, make_tiny_gpt2, make_tiny_tokenizer

pytestmark = pytest.mark.usefixtures("quiet_transformers")
QUESTIONS = [f"{'very ' * (i % 5)}odd {i}?" for i in range(11)]
NEW = 6


def plain_answer(model: Any, question: str) -> str:
    """One question, asked alone with plain transformers."""
    tokenizer = make_tiny_tokenizer()
    inputs = tokenizer.apply_chat_template(
        messages(f"u:{question}"), add_generation_prompt=True, return_tensors="pt"
    )
    out = model.generate(
        inputs["input_ids"],
        attention_mask=inputs["attention_mask"],
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=END_ID,
        pad_token_id=0,
    )
    return str(tokenizer.decode(out[0][inputs["input_ids"].shape[1] :], skip_special_tokens=True))


def rows(answers: list[str]) -> list[dict[str, Any]]:
    pairs = zip(QUESTIONS, answers, strict=True)
    return [{"messages": messages(f"u:{q}", f"a:{a}")} for q, a in pairs]


def report(
    root: Path,
    dataset: DatasetValue,
    value: AdapterValue | ModelValue,
    recorder: Recorder,
    **settings: Any,
) -> ReportValue:
    context = make_context(root / "evaluate", recorder)
    context.title = "Evaluate"
    options = EvaluateSettings(**{"rows": 0, "max_new_tokens": NEW, "batch_size": 4, **settings})
    return evaluate(context, dataset.to_json(), value.to_json(), options)


def test_batches_answer_as_each_question_alone(tmp_path: Path) -> None:
    """The base gave these answers itself, so it is right in all; the tuned one is not."""
    adapter = random_adapter(tmp_path, tiny_base(tmp_path), size=0.3)
    base = plain_model(adapter.model.model.path)
    data = write(tmp_path / "rows", rows([f" {plain_answer(base, q)}\n" for q in QUESTIONS]))
    tuned = plain_adapted(adapter)
    wanted = [plain_answer(tuned, q).strip() for q in QUESTIONS]
    for value in (adapter, merged(tmp_path, adapter)):
        recorder = Recorder()
        found = report(tmp_path / value.kind, data, value, recorder)
        assert found.measures["exact_match"]["before"] == 1.0
        assert found.measures["exact_match"]["after"] < 1.0
        written = json.loads(Path(found.path).read_text(encoding="utf-8"))
        assert [a["after"] for a in written["answers"]] == wanted
        (event,) = recorder.named("Evaluation")
        assert event.get("measures") == found.measures == written["measures"]
        assert event.get("rows") == len(QUESTIONS)
        assert len(event.get("examples")) == 8
        names = {"prompt", "expected", "before", "after", "right", "cut"}
        assert set(event.get("examples")[0]) == names
        phases = [e.get("title") for e in recorder.named("Phase") if e.get("phase") == "generate"]
        assert phases == [
            "Generating answers with the base model",
            "Generating answers with the tuned model",
        ]


def test_rows_are_spread_and_the_held_out_split_is_taken(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    data = write(tmp_path / "rows", rows(["a"] * 11), held_out=8)
    recorder = Recorder()
    found = report(tmp_path, data, base, recorder, rows=4)
    written = json.loads(Path(found.path).read_text(encoding="utf-8"))
    assert [a["prompt"] for a in written["answers"]] == [QUESTIONS[i] for i in (3, 5, 7, 9)]


def test_an_untuned_model_has_one_figure(tmp_path: Path) -> None:
    recorder = Recorder()
    found = report(
        tmp_path, write(tmp_path / "rows", rows(["a"] * 11)), tiny_base(tmp_path), recorder
    )
    assert set(found.measures["exact_match"]) == {"after"}
    assert any(
        "not fine-tuned in this project" in e.get("sentence") for e in recorder.named("Notice")
    )


def test_the_table_marks_the_right_answers(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    model = plain_model(base.path)
    answers = [plain_answer(model, q) for q in QUESTIONS]
    expected = [a if i % 2 else f"{a} not" for i, a in enumerate(answers)]
    found = report(tmp_path, write(tmp_path / "rows", rows(expected)), base, Recorder())
    written = json.loads(Path(found.path).read_text(encoding="utf-8"))
    right = [row["right"] for row in written["answers"]]
    assert right == [["after"] if i % 2 else [] for i in range(len(QUESTIONS))]
    assert found.measures["exact_match"]["after"] == right.count(["after"]) / len(QUESTIONS)


def test_case_and_blanks_do_not_count(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    model = plain_model(base.path)
    answers = [plain_answer(model, q).upper() + "  " for q in QUESTIONS]
    found = report(tmp_path, write(tmp_path / "rows", rows(answers)), base, Recorder())
    assert found.measures["exact_match"]["after"] == 1.0


def cut(written: dict[str, Any]) -> list[str]:
    """The questions whose answer after tuning is marked as cut."""
    return [a["prompt"] for a in written["answers"] if "after" in a["cut"]]


def test_an_answer_may_be_as_long_as_the_longest_expected_one(tmp_path: Path) -> None:
    """Forty tokens, which the model writes itself: none is lost, and none is marked."""
    base = tiny_base(tmp_path)
    tokenizer, model = make_tiny_tokenizer(), plain_model(base.path)
    ids = tokenizer.apply_chat_template(messages("u:odd 1?"), add_generation_prompt=True)
    ids = torch.tensor([ids["input_ids"] if hasattr(ids, "keys") else ids])
    out = model.generate(ids, max_new_tokens=40, min_new_tokens=40, do_sample=False, pad_token_id=0)
    answer = str(tokenizer.decode(out[0][ids.shape[1] :], skip_special_tokens=True))
    row = {"messages": messages("u:odd 1?", f"a:{answer}")}
    data = write(tmp_path / "rows", [row])
    found = report(tmp_path, data, base, Recorder(), max_new_tokens=0)
    written = json.loads(Path(found.path).read_text(encoding="utf-8"))
    assert written["answers"][0]["after"].startswith(answer.strip())
    assert written["settings"]["max_new_tokens"] > 40


def test_a_cut_answer_is_marked_and_counted(tmp_path: Path) -> None:
    """Two tokens of room: every answer that has not ended by then is named."""
    base = tiny_base(tmp_path)
    data = write(tmp_path / "rows", rows(["a"] * 11))
    recorder = Recorder()
    found = report(tmp_path, data, base, recorder, max_new_tokens=2)
    written = json.loads(Path(found.path).read_text(encoding="utf-8"))
    model, tokenizer = plain_model(base.path), make_tiny_tokenizer()
    going_on = []
    for question in QUESTIONS:
        prompt = tokenizer.apply_chat_template(
            messages(f"u:{question}"), add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        out = model.generate(
            prompt, max_new_tokens=2, do_sample=False, eos_token_id=END_ID, pad_token_id=0
        )
        if END_ID not in out[0][prompt.shape[1] :].tolist():
            going_on.append(question)
    assert going_on
    assert cut(written) == going_on
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert any(f"{len(going_on)} of 11 answers were cut after 2 tokens" in s for s in sentences)


def test_an_answer_that_ends_is_not_marked_as_cut(tmp_path: Path) -> None:
    """The model writes the end token first: empty, but whole."""
    base = tiny_base(tmp_path)
    model = plain_model(base.path)
    with torch.no_grad():
        head = torch.nn.Linear(model.config.hidden_size, model.config.vocab_size, bias=True)
        head.weight.zero_()
        head.bias.zero_()
        head.bias[END_ID] = 9.0
    model.lm_head = head
    (answer,) = greedy_answers(
        model,
        make_tiny_tokenizer(),
        [[5, 6, 7]],
        max_new_tokens=1,
        batch_size=1,
        check=lambda: None,
        progress=lambda done: None,
    )
    assert answer == Answer("", cut=False)


def test_rows_that_were_trained_on_are_told(tmp_path: Path) -> None:
    adapter = random_adapter(tmp_path, tiny_base(tmp_path))
    recorder = Recorder()
    report(tmp_path, adapter.dataset, adapter, recorder, rows=2)
    assert any("the model was trained" in e.get("sentence") for e in recorder.named("Notice"))


def test_plain_text_cannot_be_asked(tmp_path: Path) -> None:
    data = write(tmp_path / "rows", [{"text": "a"}, {"text": "b"}])
    with pytest.raises(StudioError, match=r"the rows of rows\.jsonl contain no question"):
        report(tmp_path, data, tiny_base(tmp_path), Recorder())


def test_raw_prompts_are_asked_as_they_are(tmp_path: Path) -> None:
    data = write(tmp_path / "rows", [{"prompt": "2 + 2 =", "completion": " 4"}])
    found = report(tmp_path, data, tiny_base(tmp_path), Recorder())
    written = json.loads(Path(found.path).read_text(encoding="utf-8"))
    assert written["answers"][0]["prompt"] == "2 + 2 ="
    assert written["answers"][0]["expected"] == " 4"


def test_a_stop_comes_within_a_token(tmp_path: Path) -> None:
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 20

    context = make_context(tmp_path / "evaluate", Recorder(), stop=stop)
    data = write(tmp_path / "rows", rows(["a"] * 11))
    base = tiny_base(tmp_path)
    options = EvaluateSettings(rows=0, max_new_tokens=4000, batch_size=11)
    with pytest.raises(Stopped):
        evaluate(context, data.to_json(), base.to_json(), options)
    assert len(asked) < 30
    assert not context.artifacts


def test_a_question_too_long_for_the_model_is_told_and_wrong(tmp_path: Path) -> None:
    """Beyond its learned positions a model cannot read: the run would end without a word of why."""
    base = model_value(make_tiny_gpt2(tmp_path / "gpt2", 64))
    questions = [messages("u:odd?", "a:x"), messages(f"u:{'very ' * 30}odd?", "a:x")]
    dataset = write(tmp_path / "data", [{"messages": m} for m in questions])
    recorder = Recorder()
    found = report(tmp_path, dataset, base, recorder, max_new_tokens=200)
    assert found.rows == 2
    assert json.loads(Path(found.path).read_text(encoding="utf-8"))["answers"][1]["after"] == ""
    sentences = [e.get("sentence") for e in recorder.named("Notice")]
    assert (
        sum("1 of 2 questions exceed the context length of the model" in s for s in sentences) == 1
    )


def test_the_end_of_a_turn_is_read_from_the_template() -> None:
    tokenizer = make_tiny_tokenizer()
    tokenizer.eos_token = "<|endoftext|>"
    assert turn_end_id(tokenizer) == END_ID
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] + ' ' }}{% endfor %}"
    assert turn_end_id(tokenizer) is None


def test_an_answer_as_the_template_teaches_it_is_right(tmp_path: Path) -> None:
    """A template that puts an empty block of thoughts before the answer: the model learns both."""
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = FORGETS_THOUGHTS
    row = {"messages": messages("u:q", "a:cat"), "prompt": None}
    question = _question(make_context(tmp_path, Recorder()), row, tokenizer, Ends(tokenizer))
    assert question is not None
    assert (question.shown, question.expected) == ("q", "cat")
    asked = [question] * 3
    assert exact_match(["<think></think>cat", " Cat\n", "<think></think>dog"], asked) == 2 / 3
    thoughtful = ["<think>\nIt meows.\n</think>\n\ncat", "Cat", "<think>cat</think>dog"]
    assert exact_match(thoughtful, asked) == 2 / 3
