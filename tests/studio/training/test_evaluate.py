"""The Evaluate step: both models asked the same, and counted honestly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped, StudioError
from studio.node_settings.evaluate import EvaluateSettings
from studio.training.answer.evaluate import evaluate
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
        assert set(event.get("examples")[0]) == {"prompt", "expected", "before", "after"}
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


def test_case_and_blanks_do_not_count(tmp_path: Path) -> None:
    base = tiny_base(tmp_path)
    model = plain_model(base.path)
    answers = [plain_answer(model, q).upper() + "  " for q in QUESTIONS]
    found = report(tmp_path, write(tmp_path / "rows", rows(answers)), base, Recorder())
    assert found.measures["exact_match"]["after"] == 1.0


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
    assert json.loads(Path(found.path).read_text())["answers"][1]["after"] == ""
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
