"""Small files that were read wrongly once, and what is right for each.

``tests/fixtures/received`` holds one example of each kind; the expected texts are those that plain
transformers renders from messages that are written here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.node_settings.dataset import DatasetSettings
from studio.training.data.arrow import open_rows
from studio.training.data.rows import prepare_rows
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_left_out import R1, Outcome, outcome_of, tokenizer_of

RECEIVED = Path(__file__).parents[2] / "fixtures" / "received"
THOUGHT = "Two plus two makes four."
ROME = {"type": "function", "function": {"name": "w", "arguments": '{"c": "Rome"}'}}


def received(root: Path, name: str, template: str = "chatml", train_on: str = "answers") -> Outcome:
    """What report and run make of one of the files with this template."""
    root.mkdir(exist_ok=True)
    (source,) = RECEIVED.glob(f"{name}-*")
    return outcome_of(root, tokenizer_of(template), source, train_on)


def rendered(template: str, messages: list[dict[str, Any]], **more: Any) -> str:
    return str(tokenizer_of(template).apply_chat_template(messages, tokenize=False, **more))


def pair(question: str, answer: str, *before: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        *before,
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def test_thoughts_under_three_keys(tmp_path: Path) -> None:
    found = received(tmp_path, "01", "qwen3")
    answer = {"role": "assistant", "content": "4", "reasoning_content": THOUGHT}
    wanted = rendered("qwen3", [{"role": "user", "content": "Two and two?"}, answer])
    assert found.texts == [wanted] * 3
    assert all(THOUGHT in t and "4" in t for t in found.trained)
    assert found.codes == []


def test_thoughts_that_the_template_omits_are_counted(tmp_path: Path) -> None:
    for name, template, count in (("01", "chatml", 3), ("02", R1, 1)):
        found = received(tmp_path, name, template)
        assert found.sentences["lost_thoughts"][0] == "warning"
        assert found.sentences["lost_thoughts"][2] == count
        assert not any(THOUGHT in t for t in found.texts)


def test_short_answers_after_thoughts(tmp_path: Path) -> None:
    found = received(tmp_path, "03", "qwen3")
    assert found.error is None
    assert len(found.trained) == 2
    for text, thought, answer in zip(
        found.trained, ("Two plus two.", "Four plus three."), ("4", "7"), strict=True
    ):
        assert thought in text
        assert text.split("</think>")[1].strip().startswith(answer)


def test_a_system_column_beside_messages(tmp_path: Path) -> None:
    found = received(tmp_path, "04")
    system = {"role": "system", "content": "You answer only in French."}
    first = rendered("chatml", pair("Hello 0?", "Bonjour numero 0.", system))
    assert found.texts[0] == first
    assert len(found.texts) == 12
    assert not any("French" in t for t in found.trained)


def test_history_and_system_beside_a_question(tmp_path: Path) -> None:
    found = received(tmp_path, "05")
    turns = [{"role": "system", "content": "Be brief."}]
    turns += pair("Earlier question", "Earlier answer")
    first = rendered("chatml", pair("And now 0?", "Now it is 0 o'clock.", *turns))
    assert found.texts[0] == first
    assert "Now it is 0 o'clock." in found.trained[0]


def test_one_message_per_row(tmp_path: Path) -> None:
    found = received(tmp_path, "06")
    wanted = [rendered("chatml", pair(f"text {n}", f"text {n + 1}")) for n in range(0, 12, 2)]
    assert found.texts == wanted
    assert not any("text 0" in t for t in found.trained)


def test_a_summary_is_the_answer(tmp_path: Path) -> None:
    found = received(tmp_path, "07")
    assert found.texts[0] == rendered(
        "chatml", pair("A long article number 0 about ships.", "Ships 0.")
    )
    assert "Ships 0." in found.trained[0]
    assert not any("article" in t for t in found.trained)


def test_the_sides_of_a_folder(tmp_path: Path) -> None:
    (source,) = RECEIVED.glob("08-*")
    recorder = Recorder()
    value = prepare_rows(make_context(tmp_path, recorder), DatasetSettings(source=str(source)))
    assert (value.train_rows, value.validation_rows) == (12, 12)
    for side in ("train", "validation"):
        asked = [row["messages"][0]["content"] for row in open_rows(Path(value.path) / side)]
        assert asked == [f"{side} question {n}?" for n in range(12)]
    assert any("test.jsonl" in e.get("sentence") for e in recorder.named("Notice"))


def test_arguments_as_text_reach_deepseek(tmp_path: Path) -> None:
    found = received(tmp_path, "09", "deepseekv3")
    assert found.error is None
    assert any('{"c": "Rome"}' in t for t in found.texts)
    question = {"role": "user", "content": "Weather?"}
    call = {"role": "assistant", "content": "", "tool_calls": [ROME | {"id": "1"}]}
    result = {"role": "tool", "tool_call_id": "1", "content": "sun"}
    answer = {"role": "assistant", "content": "It is sunny."}
    wanted = rendered("deepseekv3", [question, call, result, answer])
    assert found.texts[-1] == wanted + "<|im_end|>"  # the end token of this tokenizer


def test_null_in_arguments_and_schemas_stays(tmp_path: Path) -> None:
    found = received(tmp_path, "10", "qwen2_5")
    text = found.texts[0]
    assert '"to": null' in text
    assert '"via": null' in text
    assert '"default": null' in text


def test_a_rendered_conversation_is_a_finding_without_a_second_end_token(tmp_path: Path) -> None:
    found = received(tmp_path, "11")
    assert "rendered_chat" in found.sentences
    assert not any(t.rstrip().endswith("<|im_end|><|im_end|>") for t in found.texts)
    assert all(t.count("<|im_end|>") == 2 for t in found.texts)


def test_messages_in_the_json_type_of_arrow(tmp_path: Path) -> None:
    found = received(tmp_path, "12", "qwen2_5")
    assert found.error is None
    assert found.report.done == len(found.texts) > 0
    assert all("<|im_start|>assistant" in t for t in found.texts)


def test_a_tool_result_that_the_template_omits(tmp_path: Path) -> None:
    found = received(tmp_path, "13", "phi3")
    assert found.sentences["lost_results"][0] == "warning"
    assert found.sentences["lost_results"][2] == 12


def test_the_index_column_of_pandas(tmp_path: Path) -> None:
    found = received(tmp_path, "14")
    assert found.error is None
    assert "unused_column" not in found.sentences
    assert "What is 0?" in found.texts[0]
    assert "It is 0." in found.trained[0]


def test_an_object_as_the_answer(tmp_path: Path) -> None:
    found = received(tmp_path, "15")
    assert found.error is None
    (written,) = [json.loads(t[t.index("{") : t.rindex("}") + 1]) for t in found.trained[:1]]
    assert written == {"order": 0, "item": "pen"}


def test_a_thought_before_a_tool_call(tmp_path: Path) -> None:
    found = received(tmp_path, "16", "gptoss")
    assert found.error is None
    first, second = found.trained
    assert "I need the tool." in first
    assert "Oslo" in first
    assert "It is 3 degrees." in second
    assert "The tool says 3." in second
    assert "I need the tool." not in second


@pytest.mark.parametrize("name", [p.name[:2] for p in sorted(RECEIVED.glob("*-*.*"))])
@pytest.mark.parametrize("template", ["chatml", "qwen3", "phi3", "llama3"])
def test_report_and_run_agree_about_them(tmp_path: Path, name: str, template: str) -> None:
    found = received(tmp_path, name, template)
    assert bool(found.report.errors) == (found.error is not None)
    assert bool(found.texts) == (found.error is None)
