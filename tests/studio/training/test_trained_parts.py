"""What “Train on”, the end token and BOS do to a row, and the flags that tell of a strange one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.data.canonical import to_arrow
from studio.errors import StudioError
from studio.preview.tokens import RowFlags
from studio.training.report.row_flags import flags_of
from studio.training.tokens.chat import TemplateRefused
from studio.training.tokens.encoder import Encoded, Encoder, tokenize_dataset
from studio.training.tokens.masks import UnprovableMask, render_row
from tests.studio.training.steps import Recorder, make_context
from tests.studio.training.test_data import (
    COUNTS,
    FORGETS_THOUGHTS,
    messages,
    with_template,
    write,
)
from tests.tiny import END_ID, START_ID, make_tiny_tokenizer

NO_END = (  # closes an answer with a blank line only
    "{% for m in messages %}{{ '### ' + m['role'] + ':\n' + m['content'] + '\n\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '### assistant:\n' }}{% endif %}"
)
FOLDS = (  # Gemma's way: the system message stands in the first question, contents are trimmed
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set first = messages[0]['content'] | trim"
    " + '\n\n' %}{% set talk = messages[1:] %}{% else %}{% set first = '' %}{% set talk = messages %}"
    "{% endif %}{% for m in talk %}{{ '<' + m['role'] + '>' + (first if loop.first else '') + "
    "m['content'] | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)


def encode(
    row: dict[str, Any],
    train_on: str = "answers",
    template: str | None = "",
    length: int = 500,
    **rules: str,
) -> list[tuple[Encoded, RowFlags]]:
    tokenizer = with_template(template) if template else make_tiny_tokenizer()
    encoder = Encoder(tokenizer, length, train_on, **rules)
    parts = render_row(tokenizer, row, train_on)
    rows = encoder.encode(parts)
    return [(r, *flags_of(encoder, p, r)) for p, r in zip(parts, rows, strict=True)]


def pieces(row: Encoded) -> list[str]:
    """The trained text, run by run."""
    found: list[list[int]] = [[]]
    for label in row.labels:
        if label != -100:
            found[-1].append(label)
        elif found[-1]:
            found.append([])
    return [make_tiny_tokenizer().decode(f) for f in found if f]


def weighted(*turns: str, **weights: float) -> dict[str, Any]:
    """A stored row; ``weights`` are by number, as in ``_1=0.5``."""
    given = messages(*turns)
    for name, weight in weights.items():
        given[int(name[1:])]["weight"] = weight  # type: ignore[assignment]
    return to_arrow({"messages": given, "line": 1, "source": "a.jsonl"})


TALK = ("s:sys", "u:one", "a:uno", "u:two", "a:due")
END = "<|im_end|>\n"


def test_answers_and_the_last_answer_only() -> None:
    ((row, _),) = encode(weighted(*TALK))
    assert pieces(row) == ["uno" + END, "due" + END]
    ((row, _),) = encode(weighted(*TALK), "last_answer")
    assert pieces(row) == ["due" + END]
    assert row.weights is None


def test_an_answer_of_weight_0_is_context_in_every_mode_but_everything() -> None:
    silenced = weighted(*TALK, _4=0)
    for train_on in ("answers", "last_answer", "weights"):
        ((row, _),) = encode(silenced, train_on)
        assert pieces(row) == ["uno" + END]
    ((row, _),) = encode(silenced, "all")
    assert row.labels == row.ids


def test_weights_scale_the_loss_of_their_message() -> None:
    ((row, _),) = encode(weighted(*TALK, _2=0.5), "weights")
    assert pieces(row) == ["uno" + END, "due" + END]
    assert row.weights is not None
    by_weight = {
        w: [i for i, v in zip(row.ids, row.weights, strict=True) if v == w] for w in (0.5, 1)
    }
    assert {w: make_tiny_tokenizer().decode(i) for w, i in by_weight.items()} == {
        0.5: "uno" + END,
        1: "due" + END,
    }
    assert [w > 0 for w in row.weights] == [v != -100 for v in row.labels]
    ((plain, _),) = encode(weighted(*TALK, _2=0.5))
    assert plain.weights is None, "weights count only where they are asked for"


def test_a_question_with_a_weight_is_trained_without_its_header() -> None:
    ((row, _),) = encode(weighted(*TALK, _3=2, _2=0), "weights")
    assert pieces(row) == ["two" + END, "due" + END]
    assert row.weights is not None
    assert sorted(set(row.weights)) == [0, 1, 2]


def test_a_weighted_question_where_the_system_message_is_folded_into_it() -> None:
    ((row, _),) = encode(weighted("s: sys ", "u: one ", "a: uno ", _1=1, _2=0), "weights", FOLDS)
    assert pieces(row) == ["one<|im_end|>"]


def test_a_greeting_is_trained_only_where_the_data_weighs_it() -> None:
    talk = ("a:hello", "u:one", "a:uno")
    ((row, _),) = encode(weighted(*talk), "weights")
    assert pieces(row) == ["uno" + END]
    ((row, _),) = encode(weighted(*talk, _0=1), "weights")
    assert pieces(row) == ["hello" + END, "uno" + END]


def test_weights_survive_a_template_that_gives_one_row_per_answer() -> None:
    first, second = encode(weighted(*TALK[1:], _2=3, _3=0.5), "weights", FORGETS_THOUGHTS)
    assert pieces(first[0]) == ["<think></think>uno<|im_end|>"]
    assert first[0].weights is None
    assert pieces(second[0]) == ["two<|im_end|>", "<think></think>due<|im_end|>"]
    assert sorted(set(second[0].weights or ())) == [0, 0.5, 3]


def test_the_last_answer_needs_no_row_of_its_own_for_others() -> None:
    ((row, _),) = encode(weighted(*TALK[1:]), "last_answer", FORGETS_THOUGHTS)
    assert pieces(row) == ["<think></think>due<|im_end|>"]


def test_a_weight_whose_place_cannot_be_proven_is_refused() -> None:
    twice = COUNTS.replace("'<' + m['role']", "m['content'] + '<' + m['role']")
    with pytest.raises(UnprovableMask):
        encode(weighted("u:one", "a:uno", _0=1), "weights", twice)


def test_what_a_template_leaves_out_is_never_trained_as_nothing() -> None:
    call = [{"type": "function", "function": {"name": "add", "arguments": {}}}]
    row = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "", "tool_calls": call},
        ]
    }
    with pytest.raises(TemplateRefused, match="omits tool calls"):
        encode(row)
    parts = NO_END.replace("m['content']", "m['content'][0].text | default('')")
    with pytest.raises(TemplateRefused, match="omits the contents of answers"):
        encode(weighted("u:one", "a:uno"), template=parts)


def test_rows_for_another_objective_are_refused(tmp_path: Path) -> None:
    value = write(tmp_path / "data", [{"messages": messages("u:a", "a:b")}])
    for shape, word in (
        ("preference", "preferences"),
        ("label", "labels for good and bad answers"),
    ):
        dataset = value.model_copy(update={"shape": shape})
        with pytest.raises(StudioError, match=f"the rows contain {word}") as caught:
            tokenize_dataset(
                make_context(tmp_path, Recorder()),
                dataset,
                make_tiny_tokenizer(),
                max_length=99,
                train_on="answers",
                folder=tmp_path / "tokens",
            )
        assert (caught.value.code, caught.value.field) == ("wrong_shape", "objective")


def test_an_added_end_token_is_told(tmp_path: Path) -> None:
    for rule, count in (("auto", 1), ("never", 0)):
        recorder = Recorder()
        value = write(tmp_path / rule, [{"messages": messages("u:a", "a:b")}])
        tokens = tokenize_dataset(
            make_context(tmp_path, recorder),
            value,
            with_template(NO_END),
            max_length=99,
            train_on="answers",
            folder=tmp_path / rule / "tokens",
            end_token=rule,
        )
        notices = [e.get("sentence") for e in recorder.named("Notice")]
        assert sum("“<|im_end|>” is added" in n for n in notices) == count
        assert (tokens.train[0]["input_ids"][-1] == END_ID) == bool(count)


# ------------------------------------------------------------------ end token and BOS


def test_a_template_without_an_end_gets_the_end_token() -> None:
    row = weighted("u:one", "a:uno", "u:two", "a:due")
    ((auto, flags),) = encode(row, template=NO_END)
    assert pieces(auto) == ["uno\n\n", "due\n\n<|im_end|>"]
    assert not flags.missing_end
    ((never, flags),) = encode(row, template=NO_END, end_token="never")
    assert pieces(never) == ["uno\n\n", "due\n\n"]
    assert flags.missing_end
    ((open_, _),) = encode(weighted("u:one", "a:uno", "u:two"), template=NO_END)
    assert pieces(open_) == ["uno\n\n"], "the row ends with a question: nothing to end"


def test_a_template_with_an_end_of_its_own_gets_another_only_if_asked() -> None:
    row = weighted("u:one", "a:uno")
    assert pieces(encode(row)[0][0]) == ["uno" + END]
    assert pieces(encode(row, end_token="always")[0][0]) == ["uno" + END + "<|im_end|>"]


def test_raw_text_starts_and_ends_as_chosen_and_never_twice() -> None:
    text = {"text": "ab"}
    start, stop = "<|im_start|>", "<|im_end|>"
    assert encode(text)[0][0].ids[-1] == END_ID
    assert encode(text)[0][0].ids[0] != START_ID, "the tiny tokenizer adds no BOS by itself"
    assert END_ID not in encode(text, end_token="never")[0][0].ids
    assert encode(text, bos="always")[0][0].ids[0] == START_ID
    ((row, flags),) = encode({"text": f"{start}ab{stop}"}, bos="always", end_token="always")
    assert (row.ids.count(START_ID), row.ids.count(END_ID)) == (1, 1)
    assert not flags.double_bos


# ------------------------------------------------------------------ flags


def test_flags_of_a_sound_row() -> None:
    ((row, flags),) = encode(weighted("u:one", "a:uno"))
    length = len(row.ids)
    assert flags == RowFlags(5, length, length, False, False, False, False, False, False)
    assert not flags.zero_trained


def test_flags_of_cut_rows() -> None:
    ((row, _),) = encode(weighted("u:one", "a:uno"))
    ((_, flags),) = encode(weighted("u:one", "a:uno"), length=len(row.ids) - 1)
    assert (flags.cut, flags.answer_cut, flags.missing_end, flags.trained) == (True, True, False, 4)
    ((_, flags),) = encode(weighted("u:one", "a:uno"), length=9)
    assert (flags.zero_trained, flags.kept, flags.total) == (True, 9, len(row.ids))
    ((_, flags),) = encode(weighted("u:one", "a:uno", "u:more"), length=len(row.ids))
    assert (flags.cut, flags.answer_cut) == (True, False), "only the question after it is cut"


def test_flags_of_answers_that_say_little() -> None:
    def said(*turns: str) -> tuple[bool, bool]:
        ((_, flags),) = encode(weighted(*turns))
        return flags.empty_answer, flags.one_token_answer

    assert said("u:one", "a:  ") == (True, False)
    assert said("u:one", "a:x") == (False, True)
    assert said("u:one", "a:uno", "u:two", "a:2") == (False, True)
    assert said("u:1", "a:uno") == (False, False)


def test_a_double_bos_is_flagged() -> None:
    twice = "{{ bos_token + bos_token }}" + NO_END
    ((_, flags),) = encode(weighted("u:one", "a:uno"), template=twice)
    assert flags.double_bos
