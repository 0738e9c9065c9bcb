"""What a chat template leaves out of rows is said by the report and by the run, in the same words and
with the same count; and what they name as a way out works."""

from __future__ import annotations

import copy
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from studio.data.window import open_window
from studio.errors import StudioError
from studio.graph.registry import load_registry
from studio.node_settings.dataset import DatasetSettings
from studio.node_settings.train import TrainSettings
from studio.preview.report import DataReport, report_from_json
from studio.runs.plan import Plan, Step
from studio.runs.token_request import TokenRequest
from studio.training.data.by_number import WindowRows
from studio.training.data.rows import prepare_rows
from studio.training.data_host.session import encoder_of
from studio.training.report.make import ReportMaker
from studio.training.report.row_index import RowIndex
from studio.training.tokens.chat import render
from studio.training.tokens.chat_choice import tell_choice, with_template
from studio.training.tokens.encoder import tokenize_dataset
from studio.training.tokens.left_out import WORDS
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_thoughts import (
    AGAIN,
    CALL,
    QUESTION,
    THOUGHT,
    TOOL,
    TOOLS,
    inline,
    said,
    tokenizer_with,
)


@dataclass
class Outcome:
    """What report and run make of the same rows: the findings by code, the notices, and the texts."""

    report: DataReport
    sentences: dict[str, tuple[str, str, int]]
    notices: list[tuple[str, str, str]]
    error: StudioError | None
    texts: list[str]
    trained: list[str]

    @property
    def codes(self) -> list[str]:
        return [c for c in self.sentences if c in WORDS]


def outcome(
    root: Path, tokenizer: Any, rows: list[dict[str, Any]], train_on: str = "answers", **train: Any
) -> Outcome:
    root.mkdir(exist_ok=True)
    path = root / "rows.jsonl"
    path.write_text(
        "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8"
    )
    return outcome_of(root, tokenizer, path, train_on, **train)


def _labelled(row: Any) -> list[int]:
    return [i for i, label in zip(row["input_ids"], row["labels"], strict=True) if label != -100]


def outcome_of(
    root: Path, tokenizer: Any, source: Path, train_on: str = "answers", **train: Any
) -> Outcome:
    """The same for a file or folder."""
    settings = DatasetSettings(source=str(source), validation_fraction=0.0)
    values = TrainSettings(max_length=50_000, train_on=train_on, **train).model_dump(mode="json")
    step = Step("data", "dataset", 4, "Dataset", settings.model_dump(mode="json"), {}, "")
    request = TokenRequest(
        Plan("p", root, (step,)), "data", "dataset", step, "Train", "train", values
    )
    with open_window(settings, root, load_registry().variants["format"]) as window:
        found = WindowRows("Dataset", window)
        maker = ReportMaker(request, found, encoder_of(tokenizer, values), RowIndex(found.count))
        *_, last = (answer for answer in maker.run() if answer is not None)
    report = report_from_json(json.loads(json.dumps(last[1]["report"])))
    recorder = Recorder()
    work = Path(tempfile.mkdtemp(dir=root))
    context = make_context(work / "run", recorder)
    error, texts, trained = None, [], []
    try:
        dataset = prepare_rows(context, settings)
        chosen = with_template(tokenizer, values)
        tell_choice(context, tokenizer, chosen, values)
        tokens = tokenize_dataset(
            context,
            dataset,
            chosen,
            max_length=50_000,
            train_on=train_on,
            folder=work / "tokens",
        )
        texts = [chosen.decode(row["input_ids"]) for row in tokens.train]
        trained = [chosen.decode(_labelled(row)) for row in tokens.train]
    except StudioError as refused:
        error = refused
    return Outcome(
        report,
        {f.code: (f.severity, f.sentence, f.count) for f in report.findings},
        [(e.get("level"), e.get("sentence"), e.get("hint")) for e in recorder.named("Notice")],
        error,
        texts,
        trained,
    )


def agree(found: Outcome) -> None:
    """Report and run say the same, with the same severity, count, and way out."""
    assert bool(found.report.errors) == (found.error is not None)
    if found.error is not None:
        (finding,) = [f for f in found.report.errors if f.code in ("refused_row", "bad_row")]
        note = finding.rows[0].note
        assert found.error.sentence in note
        assert str(found.error.hint) in note
        return
    for code in found.codes:
        severity, sentence, count = found.sentences[code]
        one, many = WORDS[code][1:]
        words = (one if count == 1 else many).format(n=count)
        (notice,) = [n for n in found.notices if n[1].startswith(words.removesuffix("."))]
        assert notice[0] == severity
        assert sentence == f"{words} {notice[2]}".strip()
        assert "the first is line " in notice[1]
    others = [
        w.split("{n}")[-1] for c, (_, *ws) in WORDS.items() if c not in found.codes for w in ws
    ]
    assert not [n for n in found.notices for w in others if w.removesuffix(".") in n[1]]


def talk(*messages: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"messages": list(messages), **more}


def with_tool(number: int, **more: Any) -> dict[str, Any]:
    return talk(
        {"role": "user", "content": f"Weather {number}?"},
        said("[call w()]"),
        {"role": "tool", "content": "sunny 21"},
        said("It is sunny, 21 degrees."),
        **more,
    )


THINKS = talk(QUESTION, said("4", thinking=THOUGHT))
INLINE = talk(QUESTION, inline(THOUGHT, "The sum of two and two is four."))
SYSTEM = talk({"role": "system", "content": "Be brief."}, QUESTION, said("4"))
NAMED = talk({**QUESTION, "name": "Ada"}, said("4"))
OFFERED = talk(QUESTION, said("4"), tools=TOOLS)
CALLED = talk(QUESTION, said("", tool_calls=[CALL], weight=0), TOOL, said("It is 3."), tools=TOOLS)
ASKED = talk(QUESTION, said("4"), chat_template_kwargs={"enable_thinkin": False})
R1 = (  # the rule of DeepSeek-R1: what stands before </think> is dropped from answers
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}"
    "{{ '<｜Assistant｜>' + m.content.split('</think>')[-1] + eos_token }}"
    "{% else %}{{ '<｜User｜>' + m.content }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}"
)
NO_SYSTEM = (
    "{% for m in messages if m.role != 'system' %}{{ '<|im_start|>' + m.role + '\n' + m.content "
    "+ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMED_TOOLS = (  # results of tools without a name are dropped
    "{% for m in messages if m.role != 'tool' or m.name %}{{ '<|im_start|>' + m.role + '\n' "
    "+ m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer_of(name: str) -> Any:
    tokenizer = tokenizer_with("chatml")
    tokenizer.chat_template = name if "{%" in name else tokenizer_with(name).chat_template
    return tokenizer


CASES: dict[str, tuple[str, list[dict[str, Any]], list[str]]] = {
    "results, Phi-3": ("phi3", [with_tool(n) for n in range(12)], ["lost_results"]),
    "results, Phi-3.5": ("phi3_5", [with_tool(1)], ["lost_results"]),
    "thoughts, ChatML": ("chatml", [THINKS, THINKS | {"n": 1}], ["lost_thoughts"]),
    "thoughts, Qwen 2.5": ("qwen2_5", [THINKS], ["lost_thoughts"]),
    "thoughts, Llama 3": ("llama3", [THINKS], ["lost_thoughts"]),
    "thoughts, Gemma 3": ("gemma3", [THINKS], ["lost_thoughts"]),
    "thoughts, some rows": ("llama-3", [SYSTEM, THINKS], ["lost_thoughts"]),
    "inline thoughts, R1 rule": (R1, [INLINE], ["lost_thoughts"]),
    "inline thoughts, kept": ("chatml", [INLINE], []),
    "system": (NO_SYSTEM, [SYSTEM, SYSTEM | {"n": 1}, NAMED], ["lost_system", "lost_names"]),
    "system, kept": ("gemma3", [SYSTEM], []),
    "tools, Llama 3": ("llama3", [OFFERED], ["lost_tools"]),
    "tools, SmolLM": (NO_SYSTEM, [OFFERED], ["lost_tools"]),
    "tools, kept": ("qwen2_5", [OFFERED], []),
    "a call that is context": ("phi3", [CALLED], ["lost_results", "lost_tools", "lost_calls"]),
    "names": ("qwen2_5", [NAMED], ["lost_names"]),
    "arguments": ("llama3", [ASKED], ["lost_kwargs"]),
    "an empty thought": ("qwen3", [NAMED, SYSTEM], ["lost_names", "empty_thoughts"]),
    "an empty thought, library": ("qwen-3", [SYSTEM], ["empty_thoughts"]),
    "another beginning": (
        "deepseekv3",
        [talk(QUESTION, said("", tool_calls=[CALL]))],
        ["other_prompt"],
    ),
    "nothing": ("qwen3", [THINKS], []),
    "one of two results": (
        NAMED_TOOLS,
        [talk(*with_tool(1)["messages"], AGAIN, said("[call w()]"), TOOL, said("3 degrees."))],
        ["lost_results"],
    ),
}


@pytest.mark.parametrize("train_on", ["answers", "last_answer", "weights", "all"])
@pytest.mark.parametrize("name", CASES)
def test_report_and_run_say_what_is_left_out(tmp_path: Path, name: str, train_on: str) -> None:
    template, rows, codes = CASES[name]
    found = outcome(tmp_path / "a", tokenizer_of(template), rows, train_on)
    if name == "a call that is context" and train_on == "all":
        assert found.error is not None  # all answers are trained
        assert "omits tool calls" in found.error.sentence
    else:
        assert found.error is None
        assert found.codes == codes
    agree(found)


def test_the_count_and_the_first_rows(tmp_path: Path) -> None:
    rows = [SYSTEM, *(with_tool(n) for n in range(12))]
    found = outcome(tmp_path / "a", tokenizer_of("phi3"), rows)
    (finding,) = [f for f in found.report.findings if f.code == "lost_results"]
    assert (finding.severity, finding.count) == ("warning", 12)
    assert [p.line for p in finding.rows] == list(range(2, 14))
    assert finding.rows[0].note == "the result of a tool"


SOME_SYSTEM = NO_SYSTEM.replace("m.role != 'system'", "m.role != 'system' or 'keep' in m.content")


def test_rows_of_one_shape_are_told_apart_where_the_template_looks_at_contents(
    tmp_path: Path,
) -> None:
    kept = talk({"role": "system", "content": "keep this"}, QUESTION, said("4"))
    found = outcome(tmp_path / "a", tokenizer_of(SOME_SYSTEM), [SYSTEM, kept, SYSTEM | {"n": 1}])
    assert found.sentences["lost_system"][2] == 2
    agree(found)
    with_empty = talk({"role": "system", "content": ""}, QUESTION, said("4"))
    found = outcome(tmp_path / "b", tokenizer_of(NO_SYSTEM), [SYSTEM, with_empty, THINKS, SYSTEM])
    assert found.sentences["lost_system"][2] == 2
    assert found.sentences["lost_thoughts"][2] == 1


WAYS = [
    ("chatml", [THINKS], "Qwen 3"),
    ("qwen2_5", [THINKS], "Qwen 3"),
    ("llama3", [THINKS], "Qwen 3"),
    (R1, [INLINE], "ChatML"),
    ("phi3", [with_tool(1)], "ChatML"),
    (NO_SYSTEM, [SYSTEM], "ChatML"),
]


@pytest.mark.parametrize(("template", "rows", "title"), WAYS)
def test_the_template_that_is_named_keeps_it(
    tmp_path: Path, template: str, rows: list[dict[str, Any]], title: str
) -> None:
    found = outcome(tmp_path / "a", tokenizer_of(template), rows)
    (code,) = found.codes
    assert f"Choose the chat template “{title}”" in found.sentences[code][1]
    (fix,) = [f.fix for f in found.report.findings if f.code == code and f.fix is not None]
    (change,) = fix.changes
    assert change.setting == "chat_template"
    again = outcome(tmp_path / "b", tokenizer_of(template), rows, chat_template=change.value)
    assert again.codes == []
    agree(again)


@pytest.mark.parametrize("template", ["chatml", "qwen2_5", "llama3", NO_SYSTEM])
def test_thoughts_written_inline_are_kept_where_that_is_said(tmp_path: Path, template: str) -> None:
    found = outcome(tmp_path / "a", tokenizer_of(template), [THINKS])
    assert (
        "write the thoughts into the answers as <think>…</think>"
        in found.sentences["lost_thoughts"][1]
    )
    again = outcome(tmp_path / "b", tokenizer_of(template), [talk(QUESTION, inline(THOUGHT, "4"))])
    assert again.codes == []
    assert THOUGHT in again.texts[0]
    dropped = outcome(tmp_path / "c", tokenizer_of(R1), [THINKS])
    assert "write the thoughts" not in dropped.sentences["lost_thoughts"][1]


def test_training_on_everything_loses_earlier_thoughts(tmp_path: Path) -> None:
    rows = [talk(QUESTION, inline(THOUGHT, "4"), AGAIN, inline("Four plus three.", "7"))]
    found = outcome(tmp_path / "a", tokenizer_of("qwen3"), rows, "all")
    assert found.codes == ["lost_thoughts"]
    assert "set “Train on” to Answers only" in found.sentences["lost_thoughts"][1]
    agree(found)
    assert outcome(tmp_path / "b", tokenizer_of("qwen3"), rows).codes == []


# ------------------------------------------------------------------ refusals


def refused(
    root: Path, template: str, row: dict[str, Any], train_on: str = "answers"
) -> StudioError:
    found = outcome(root, tokenizer_of(template), [row], train_on)
    agree(found)
    assert found.error is not None
    return found.error


@pytest.mark.parametrize("template", ["deepseekv3", "deepseek_r1_distill"])
@pytest.mark.parametrize("row", [INLINE, THINKS, SYSTEM])
def test_a_prompt_that_begins_the_thoughts_names_a_template_that_works(
    tmp_path: Path, template: str, row: dict[str, Any]
) -> None:
    error = refused(tmp_path / "a", template, row)
    assert "because it asks for an answer with “<｜Assistant｜><think>”" in error.sentence
    hint = str(error.hint)
    assert hint.startswith("Choose the chat template “DeepSeek")
    assert "Change that row" not in hint
    assert "Everything" not in hint
    if row is not SYSTEM:
        assert "All tokens" not in hint  # the thoughts would be lost
    name = "deepseek-r1" if "R1" in hint else "deepseek"
    again = outcome(tmp_path / "b", tokenizer_of(template), [row], chat_template=name)
    assert again.codes == []
    if row is not SYSTEM:
        assert THOUGHT in again.texts[0]


def test_an_argument_that_ends_the_thoughts_is_named_where_it_works(tmp_path: Path) -> None:
    hint = str(refused(tmp_path / "a", "nemotron_3_nano", SYSTEM).hint)
    assert 'set “Template arguments” to {"enable_thinking": false}' in hint
    found = outcome(
        tmp_path / "b",
        tokenizer_of("nemotron_3_nano"),
        [SYSTEM],
        chat_template_kwargs='{"enable_thinking": false}',
    )
    assert found.error is None
    hint = str(refused(tmp_path / "c", "deepseekv3", SYSTEM).hint)
    assert "Template arguments" not in hint


def test_an_answer_of_thoughts_alone_is_refused(tmp_path: Path) -> None:
    error = refused(tmp_path / "a", R1, talk(QUESTION, said(f"<think>\n{THOUGHT}\n</think>")))
    assert "omits the contents of answers" in error.sentence


@pytest.mark.parametrize("train_on", ["answers", "all"])
def test_a_trained_call_that_is_left_out_is_refused(tmp_path: Path, train_on: str) -> None:
    row = talk(QUESTION, said("", tool_calls=[CALL]), TOOL, said("It is 3."))
    error = refused(tmp_path / "a", "phi3", row, train_on)
    assert "omits tool calls" in error.sentence
    assert "Choose the chat template “Qwen 2.5”" in str(error.hint)


def test_a_second_call_that_is_left_out_is_refused(tmp_path: Path) -> None:
    """GPT-OSS shows one call of a message; the name of the other is also that of the tool."""
    row = talk(QUESTION, said("", tool_calls=[CALL, CALL]), tools=TOOLS)
    assert "omits tool calls" in refused(tmp_path / "a", "gptoss", row).sentence


def test_change_that_row_is_said_only_where_a_change_helps(tmp_path: Path) -> None:
    two_questions = talk(QUESTION, AGAIN, said("7"))
    assert "change that row" in str(refused(tmp_path / "a", "gemma3", two_questions).hint)
    never = "{{ raise_exception('Not for training') }}"
    hint = str(refused(tmp_path / "b", never + "{% for m in messages %}{% endfor %}", SYSTEM).hint)
    assert "change that row" not in hint.lower()


# ------------------------------------------------------------------ template arguments

OFF = {"enable_thinking": False}


def plain(name: str, row: dict[str, Any], **kwargs: Any) -> str:
    """What transformers makes of the row with these arguments."""
    return str(
        tokenizer_of(name).apply_chat_template(
            row["messages"], tools=row.get("tools"), tokenize=False, **kwargs
        )
    )


EFFORT = {"reasoning_effort": "high", "model_identity": "You are “Ada”,\nno 'other' {{ x }} %}. 😀"}


@pytest.mark.parametrize("where", ["row", "setting", "both"])
@pytest.mark.parametrize(
    ("name", "kwargs"),
    [
        ("gptoss", EFFORT),
        ("gptoss", {"reasoning_effort": "low"}),
        ("nemotron_3_nano", OFF),
        ("glm4moe", {"enable_thinking": True}),
        ("lfm2_2_5", {"preserve_thinking": True}),
        ("qwen3_6", {"preserve_thinking": True}),
    ],
)
def test_arguments_are_honoured(
    tmp_path: Path, name: str, kwargs: dict[str, Any], where: str
) -> None:
    row = talk({"role": "system", "content": "Be brief."}, QUESTION, said("It is four."))
    given = {"setting": {}, "row": kwargs, "both": kwargs}[where]
    other = dict.fromkeys(kwargs) if where == "both" else kwargs
    train = {} if where == "row" else {"chat_template_kwargs": json.dumps(other)}
    rows = [row | {"chat_template_kwargs": given} if given else row]
    found = outcome(tmp_path / "a", tokenizer_of(name), rows, **train)
    assert found.error is None
    wanted = tokenizer_of(name)(plain(name, row, **kwargs), add_special_tokens=False)["input_ids"]
    assert found.texts[0].startswith(tokenizer_of(name).decode(wanted))
    assert "lost_kwargs" not in found.codes
    agree(found)


def test_without_thinking_the_empty_thought_is_given_and_not_trained(tmp_path: Path) -> None:
    tokenizer = tokenizer_of("qwen3")
    first = outcome(tmp_path / "a", tokenizer, [SYSTEM])
    assert '{"enable_thinking": false}' in first.sentences["empty_thoughts"][1]
    second = outcome(tmp_path / "b", tokenizer, [SYSTEM], chat_template_kwargs=json.dumps(OFF))
    assert second.codes == []
    assert second.report.trained_tokens < first.report.trained_tokens
    assert second.texts == first.texts
    third = outcome(tmp_path / "c", tokenizer, [SYSTEM | {"chat_template_kwargs": OFF}])
    assert third.report.trained_tokens == second.report.trained_tokens


def test_the_tuned_model_is_asked_with_the_arguments() -> None:
    values = TrainSettings(chat_template_kwargs=OFF).model_dump(mode="json")
    chosen = with_template(tokenizer_of("qwen3"), values)
    assert render(chosen, [QUESTION], ask=True).endswith("<think>\n\n</think>\n\n")
    asked = chosen.apply_chat_template([QUESTION], tokenize=False, add_generation_prompt=True)
    assert asked == render(chosen, [QUESTION], ask=True)
    other = chosen.apply_chat_template(
        [QUESTION], tokenize=False, add_generation_prompt=True, enable_thinking=True
    )
    assert other.endswith("<|im_start|>assistant\n")


def test_saved_with_the_tokenizer(tmp_path: Path) -> None:
    from studio.training.tokens.chat import load_tokenizer

    values = TrainSettings(chat_template_kwargs=OFF).model_dump(mode="json")
    with_template(tokenizer_of("qwen3"), values).save_pretrained(tmp_path)
    assert render(load_tokenizer(tmp_path), [QUESTION], ask=True).endswith("</think>\n\n")


def test_several_templates_by_name_get_the_arguments() -> None:
    tokenizer = tokenizer_of("qwen3")
    tokenizer.chat_template = {"default": tokenizer.chat_template}
    values = TrainSettings(chat_template_kwargs=OFF).model_dump(mode="json")
    chosen = with_template(tokenizer, values)
    assert render(chosen, [QUESTION], ask=True).endswith("</think>\n\n")


def test_arguments_that_the_template_does_not_read_are_said(tmp_path: Path) -> None:
    given = json.dumps({"enable_thinkin": True})
    found = outcome(tmp_path / "a", tokenizer_of("qwen3"), [THINKS], chat_template_kwargs=given)
    assert any("does not read “enable_thinkin”" in n[1] for n in found.notices)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{", "not valid JSON"),
        ("[1]", "not a JSON object"),
        ('{"messages": []}', "“messages”, which the program sets itself"),
        ('{"add_generation_prompt": true}', "sets itself"),
        ('{"a b": 1}', "“a b”, which cannot be the name"),
    ],
)
def test_arguments_that_cannot_be_given_are_refused(tmp_path: Path, given: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainSettings(chat_template_kwargs=given)
    found = outcome(
        tmp_path / "a", tokenizer_of("qwen3"), [THINKS | {"chat_template_kwargs": given}]
    )
    assert found.error is not None
    assert words in found.error.sentence
    assert "line 1" in found.error.sentence


def test_the_same_row_with_other_arguments_is_no_duplicate(tmp_path: Path) -> None:
    rows = [SYSTEM, SYSTEM | {"chat_template_kwargs": OFF}]
    found = outcome(tmp_path / "a", tokenizer_of("qwen3"), rows)
    assert "duplicate" not in found.sentences


def test_tokens_of_other_arguments_are_not_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LORA_STUDIO_CACHE", raising=False)
    tokenizer = tokenizer_of("qwen3")
    found = [
        outcome(tmp_path / "a", copy.copy(tokenizer), [SYSTEM], chat_template_kwargs=given)
        for given in ("", json.dumps(OFF), "")
    ]
    taken = [any("from the cache" in n[1] for n in f.notices) for f in found]
    assert taken == [False, False, True]
    assert found[2].notices[-1][1] != found[1].notices[-1][1]
    agree(found[2])  # what was left out is said of cached tokens, too


@pytest.mark.parametrize(
    "content",
    [
        "<thinking>Hm.</thinking>\n<output>4</output>",
        "[THINK]Hm.[/THINK]4",
        "<seed:think>Hm.</seed:think>4",
        "<|begin_of_thought|>Hm.<|end_of_thought|>4",
    ],
)
@pytest.mark.parametrize("name", ["qwen3", "qwen-3"])
def test_an_empty_thought_before_thoughts_in_other_marks_is_told(
    tmp_path: Path, name: str, content: str
) -> None:
    found = outcome(tmp_path / "a", tokenizer_of(name), [talk(QUESTION, said(content))])
    agree(found)
    assert found.codes == ["empty_thoughts"]
    assert f"<think>\n\n</think>\n\n{content}" in found.texts[0]
    own = talk(QUESTION, said("<think>\n\n</think>\n\n4"))
    assert outcome(tmp_path / "b", tokenizer_of(name), [own]).codes == []


ARGUMENTS = {"custom_instructions": "Be kind.", "xml_tools": ["{}"]}


def test_template_arguments_that_are_not_read_are_named(tmp_path: Path) -> None:
    """As in the rows of SmolTalk 2."""
    rows = [talk(QUESTION, said("4"), chat_template_kwargs=ARGUMENTS)]
    found = outcome(tmp_path / "a", tokenizer_of("llama3"), rows)
    agree(found)
    assert "“custom_instructions”, “xml_tools”" in found.sentences["lost_kwargs"][1]


def test_template_arguments_do_not_hide_a_way_out(tmp_path: Path) -> None:
    """A row that the template refuses is offered one that takes it, also where that reads no arguments."""
    row = with_tool(1, chat_template_kwargs=ARGUMENTS)
    found = outcome(tmp_path / "a", tokenizer_of("llama-3"), [row])
    agree(found)
    assert found.error is not None
    assert (
        found.error.hint
        == "Choose the chat template “ChatML” on the Train node, or change that row."
    )
    again = outcome(tmp_path / "b", tokenizer_of("llama-3"), [row], chat_template="chatml")
    assert again.error is None


def test_the_template_of_qwen_3_in_the_library_reads_enable_thinking(tmp_path: Path) -> None:
    """As the model's own: without thinking, the empty thought is given and not trained."""
    rows = [talk(QUESTION, said("4"), chat_template_kwargs={"enable_thinking": False})]
    texts = []
    for name in ("qwen3", "qwen-3"):
        found = outcome(tmp_path / name, tokenizer_of(name), rows)
        assert found.codes == []
        texts += found.texts
    assert texts[0] == texts[1]
