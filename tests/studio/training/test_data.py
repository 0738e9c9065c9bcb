"""Tokens and labels: what is trained, to the last id.

The tiny tokenizer has one token per byte, so ids can be read; a small trained one shows what
happens where tokens span several letters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

from studio.errors import Stopped, StudioError
from studio.training.tokens.encoder import Encoder, Tokenized, load_tokenizer, tokenize_dataset
from studio.training.tokens.masks import render_row
from studio.values import DatasetValue
from tests.studio.training.steps import Recorder, make_context
from tests.tiny import END_ID, START_ID, make_tiny_tokenizer

ASSETS = Path(__file__).parents[3] / "assets" / "data"
NEWLINE = make_tiny_tokenizer()("\n")["input_ids"][0]


def ids(text: str) -> list[int]:
    return make_tiny_tokenizer()(text, add_special_tokens=False)["input_ids"]


def masked(count: int) -> list[int]:
    return [-100] * count


def messages(*turns: str) -> list[dict[str, str]]:
    """``u:hi`` is the user's, ``a:`` the assistant's, ``s:`` the system's, ``t:`` a tool's."""
    roles = {"u": "user", "a": "assistant", "s": "system", "t": "tool"}
    return [{"role": roles[t[0]], "content": t[2:]} for t in turns]


def write(folder: Path, rows: Sequence[dict[str, Any]], held_out: int = 0) -> DatasetValue:
    """A prepared data set of these canonical rows; the last ones are for validation."""
    from studio.training.data.arrow import RowWriter
    from studio.training.data.rows import FEATURES

    full = [{"line": i + 1, "source": "rows.jsonl", **r} for i, r in enumerate(rows)]
    cut = len(full) - held_out
    for name, part in (("train", full[:cut]), ("validation", full[cut:])):
        if part:
            with RowWriter(folder / name, FEATURES, name) as writer:
                writer.write({n: [r.get(n) for r in part] for n in FEATURES})
    kind: Any = "text" if "text" in rows[0] else "messages"
    return DatasetValue(
        path=str(folder),
        format=kind,
        shape=kind,
        train_rows=cut,
        validation_rows=held_out,
        sha256="0" * 64,
        sources=["rows.jsonl"],
    )


def tokenized(
    root: Path,
    rows: Sequence[dict[str, Any]],
    tokenizer: Any = None,
    recorder: Recorder | None = None,
    *,
    max_length: int = 500,
    train_on: str = "answers",
    held_out: int = 0,
    long_text: str = "cut",
) -> Tokenized:
    context = make_context(root, recorder or Recorder())
    return tokenize_dataset(
        context,
        write(root / "data", rows, held_out),
        tokenizer or make_tiny_tokenizer(),
        max_length=max_length,
        train_on=train_on,
        folder=root / "tokens",
        long_text=long_text,
    )


def row_of(tokens: Tokenized, number: int = 0) -> tuple[list[int], list[int]]:
    row = tokens.train[number]
    return row["input_ids"], row["labels"]


def sentences_of(recorder: Recorder) -> list[str]:
    return [e.get("sentence") for e in recorder.named("Notice")]


# ------------------------------------------------------------------ golden rows


def test_golden_two_turns(tmp_path: Path) -> None:
    turns = messages("u:a", "a:b", "u:c", "a:d")
    got, labels = row_of(tokenized(tmp_path, [{"messages": turns}]))
    ask_1 = [START_ID, *ids("user\na"), END_ID, NEWLINE, START_ID, *ids("assistant\n")]
    say_1 = [*ids("b"), END_ID, NEWLINE]
    ask_2 = [START_ID, *ids("user\nc"), END_ID, NEWLINE, START_ID, *ids("assistant\n")]
    say_2 = [*ids("d"), END_ID, NEWLINE]
    assert got == ask_1 + say_1 + ask_2 + say_2
    assert labels == masked(len(ask_1)) + say_1 + masked(len(ask_2)) + say_2


def test_golden_ids_in_figures(tmp_path: Path) -> None:
    """Written out once, so that no helper of the test can hide a change."""
    got, labels = row_of(tokenized(tmp_path, [{"messages": messages("u:a", "a:b")}]))
    assert got == [
        1,
        87,
        85,
        71,
        84,
        201,
        67,
        2,
        201,
        1,
        67,
        85,
        85,
        75,
        85,
        86,
        67,
        80,
        86,
        201,
        68,
        2,
        201,
    ]
    assert labels == masked(20) + [68, 2, 201]


def test_golden_system_tool_and_trailing_question(tmp_path: Path) -> None:
    turns = messages("s:x", "u:a", "a:b", "t:7", "a:c", "u:d")
    got, labels = row_of(tokenized(tmp_path, [{"messages": turns}]))
    trained = [i for i, v in zip(got, labels, strict=True) if v != -100]
    assert trained == [*ids("b"), END_ID, NEWLINE, *ids("c"), END_ID, NEWLINE]
    assert all(a == b for a, b in zip(got, labels, strict=True) if b != -100)


def test_an_answer_before_any_question_is_context(tmp_path: Path) -> None:
    got, labels = row_of(tokenized(tmp_path, [{"messages": messages("a:hi", "u:a", "a:b")}]))
    assert [i for i in labels if i != -100] == [*ids("b"), END_ID, NEWLINE]
    assert len(got) == len(labels)


def test_golden_plain_text_and_raw_completion(tmp_path: Path) -> None:
    text = tokenized(tmp_path / "t", [{"text": "ab"}])
    assert row_of(text) == ([*ids("ab"), END_ID], [*ids("ab"), END_ID])
    raw = tokenized(tmp_path / "r", [{"prompt": "ab", "completion": "cd"}])
    assert row_of(raw) == ([*ids("abcd"), END_ID], [*masked(2), *ids("cd"), END_ID])


def test_train_on_all(tmp_path: Path) -> None:
    got, labels = row_of(
        tokenized(tmp_path, [{"messages": messages("u:a", "a:b")}], train_on="all")
    )
    assert got == labels


# ------------------------------------------------------------------ against the plain way


@lru_cache(maxsize=1)
def word_tokenizer() -> Any:
    """A tokenizer with tokens of several letters, trained on the shipped rows."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1500,
        special_tokens=special,
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    text = (ASSETS / "wordnet8_train.jsonl").read_text(encoding="utf-8").splitlines()[:400]
    core.train_from_iterator([*text, "\n\n \n\n a\n\n"] * 2, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = make_tiny_tokenizer().chat_template
    return tokenizer


def plain_way(tokenizer: Any, turns: list[dict[str, str]]) -> tuple[list[int], list[int]]:
    """A careful user's own encoding: prompt and last answer, tokenized one after the other."""
    whole = tokenizer.apply_chat_template(turns, tokenize=False)
    head = tokenizer.apply_chat_template(turns[:-1], tokenize=False, add_generation_prompt=True)
    assert whole.startswith(head)
    a = tokenizer(head, add_special_tokens=False)["input_ids"]
    b = tokenizer(whole[len(head) :], add_special_tokens=False)["input_ids"]
    return a + b, masked(len(a)) + b


def single_turns(count: int) -> list[list[dict[str, str]]]:
    rows = (ASSETS / "wordnet8_train.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    chats = [json.loads(r)["messages"] for r in rows]
    talk = (ASSETS / "chatterbot_en_alpaca.jsonl").read_text(encoding="utf-8").splitlines()[:count]
    pairs = [(r["instruction"], r["output"]) for r in map(json.loads, talk)]
    odd = [("a", "\n b"), ("a ", " b"), ("ü雪", "🙂 ok"), ("", "\n\n"), ("a", "<|im_end|>b")]
    return chats + [messages(f"u:{q}", f"a:{a}") for q, a in [*pairs, *odd]]


@pytest.mark.parametrize("make", [make_tiny_tokenizer, word_tokenizer])
def test_single_turn_rows_equal_the_plain_way(make: Any, tmp_path: Path) -> None:
    tokenizer = make()
    turns = single_turns(150)
    tokens = tokenized(tmp_path, [{"messages": t} for t in turns], tokenizer, max_length=100_000)
    for number, chat in enumerate(turns):
        assert row_of(tokens, number) == plain_way(tokenizer, chat), chat


def test_a_token_never_lies_across_the_border_of_an_answer() -> None:
    tokenizer = word_tokenizer()
    row = {"prompt": "the definition:\n", "completion": "\nbird"}
    (rendered,) = render_row(tokenizer, row)
    (encoded,) = Encoder(tokenizer, 100).encode([rendered])
    got, labels = encoded.ids, encoded.labels
    prompt = tokenizer(row["prompt"], add_special_tokens=False)["input_ids"]
    assert got[: len(prompt)] == prompt
    assert labels[: len(prompt)] == masked(len(prompt))
    assert labels[len(prompt) :] == got[len(prompt) :]
    blank = {"prompt": "a ", "completion": "bird"}
    (encoded,) = Encoder(tokenizer, 100).encode(render_row(tokenizer, blank))
    assert encoded.ids[:2] == tokenizer("a ", add_special_tokens=False)["input_ids"]


# ------------------------------------------------------------------ other templates

TURN = "{{ '<' + m['role'] + '>' + m['content'] + '<|im_end|>' }}"
FORGETS_THOUGHTS = (  # the last answer gets a thinking block, earlier ones lose it
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ '<assistant>' }}"
    "{% if loop.last %}{{ '<think></think>' }}{% endif %}{{ m['content'] + '<|im_end|>' }}"
    "{% else %}" + TURN + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
MARKED = (  # adds a count at the start, so no part is a prefix of the whole; marks the answers
    "{{ messages | length }}{% for m in messages %}{% if m['role'] == 'assistant' %}"
    "{{ '<assistant>' }}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}" + TURN + "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}"
)
COUNTS = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
STRICT = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ '[' + m['role'] + ']' + m['content'] | trim }}{% if m['role'] == 'assistant' %}"
    "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '[assistant]' }}{% endif %}"
)


def with_template(template: str | None) -> Any:
    tokenizer = make_tiny_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def test_a_template_that_trims_and_starts_with_bos(tmp_path: Path) -> None:
    chat = [{"messages": messages("u: a ", "a: b ")}]
    got, labels = row_of(tokenized(tmp_path, chat, with_template(STRICT)))
    head = [START_ID, *ids("[user]a[assistant]")]
    assert got == [*head, *ids("b"), END_ID]
    assert labels == [*masked(len(head)), *ids("b"), END_ID]


def test_a_template_that_forgets_gives_one_row_per_answer(tmp_path: Path) -> None:
    recorder = Recorder()
    chat = [{"messages": messages("u:a", "a:b", "u:c", "a:d")}]
    tokens = tokenized(tmp_path, chat, with_template(FORGETS_THOUGHTS), recorder)
    assert len(tokens.train) == 2
    for number, (answer, before) in enumerate((("b", "<user>a"), ("d", "<user>c"))):
        got, labels = row_of(tokens, number)
        assert [i for i in labels if i != -100] == [*ids(f"<think></think>{answer}"), END_ID]
        assert (
            make_tiny_tokenizer()
            .decode(got)
            .endswith(f"{before}<|im_end|><assistant><think></think>{answer}<|im_end|>")
        )
    assert any("1 row was split" in s for s in sentences_of(recorder))


def test_a_template_that_marks_its_answers_is_believed(tmp_path: Path) -> None:
    chat = [{"messages": messages("u:a", "a:b", "u:c", "a:d")}]
    tokens = tokenized(tmp_path, chat, with_template(MARKED))
    got, labels = row_of(tokens)
    assert [i for i in labels if i != -100] == [*ids("b"), END_ID, *ids("d"), END_ID]
    assert len(tokens.train) == 1
    assert got[0] == ids("4")[0]


def test_a_template_that_allows_no_proof_is_refused(tmp_path: Path) -> None:
    chat = [{"messages": messages("u:a", "a:b", "u:c", "a:d")}]
    with pytest.raises(StudioError) as caught:
        tokenized(tmp_path, chat, with_template(COUNTS))
    assert caught.value.code == "unstable_template"
    assert "rows.jsonl, line 1" in str(caught.value)
    everything = tokenized(tmp_path / "all", chat, with_template(COUNTS), train_on="all")
    assert len(everything.train) == 1


def test_a_role_that_the_template_refuses_names_the_line(tmp_path: Path) -> None:
    rows = [{"messages": messages("u:a", "a:b")}, {"messages": messages("s:x", "u:a", "a:b")}]
    with pytest.raises(StudioError, match="line 2: System role not supported") as caught:
        tokenized(tmp_path, rows, with_template(STRICT))
    assert caught.value.line == 2


def test_a_model_without_a_template_gets_a_plain_one(tmp_path: Path) -> None:
    with_template(None).save_pretrained(str(tmp_path / "model"))
    tokenizer = load_tokenizer(tmp_path / "model")
    recorder = Recorder()
    got, labels = row_of(
        tokenized(tmp_path, [{"messages": messages("u:a", "a:b")}], tokenizer, recorder)
    )
    head = ids("user: a\nassistant: ")
    assert got == [*head, *ids("b"), END_ID, NEWLINE]
    assert labels == [*masked(len(head)), *ids("b"), END_ID, NEWLINE]
    assert any("no chat template" in s for s in sentences_of(recorder))


def test_bos_comes_once_where_the_tokenizer_adds_it(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = with_template(None)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", START_ID)]
    )
    tokenizer.save_pretrained(str(tmp_path / "model"))
    loaded = load_tokenizer(tmp_path / "model")
    rows = [{"text": "ab"}, {"text": "<|im_start|>ab<|im_end|>"}]
    tokens = tokenized(tmp_path / "text", rows, loaded)
    for number in (0, 1):
        assert row_of(tokens, number)[0] == [START_ID, *ids("ab"), END_ID]
    chat = tokenized(tmp_path / "chat", [{"messages": messages("u:a", "a:b")}], loaded)
    assert row_of(chat)[0].count(START_ID) == 1


# ------------------------------------------------------------------ cutting, counting, stopping


def test_long_rows_are_cut_and_counted(tmp_path: Path) -> None:
    recorder = Recorder()
    rows = [
        {"messages": messages("u:a", "a:b")},
        {"messages": messages("u:a", "a:" + "b" * 50)},
        {"messages": messages("u:" + "a" * 50, "a:b")},
    ]
    tokens = tokenized(tmp_path, rows, recorder=recorder, max_length=30)
    assert [len(r) for r in tokens.train["input_ids"]] == [23, 30]
    said = sentences_of(recorder)
    assert any("2 rows were longer than 30 tokens" in s and "line 2" in s for s in said)
    assert any("1 row was skipped" in s and "line 3" in s for s in said)


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="maximum length of 10 tokens") as caught:
        tokenized(tmp_path, [{"messages": messages("u:a", "a:b")}], max_length=10)
    assert (caught.value.field, caught.value.code) == ("max_length", "nothing_to_train")


def test_validation_rows_are_apart(tmp_path: Path) -> None:
    rows = [{"messages": messages("u:a", f"a:{i}")} for i in range(5)]
    tokens = tokenized(tmp_path, rows, held_out=2)
    assert (len(tokens.train), len(tokens.validation or ())) == (3, 2)
    assert tokenized(tmp_path / "none", rows).validation is None


def test_tokens_are_memory_mapped_ints(tmp_path: Path) -> None:
    tokens = tokenized(tmp_path, [{"messages": messages("u:a", "a:b")}])
    assert [str(tokens.train.features[n].feature.dtype) for n in ("input_ids", "labels")] == [
        "int32",
        "int32",
    ]
    assert tokens.train.cache_files[0]["filename"].startswith(str(tmp_path / "tokens"))


def test_every_row_knows_where_it_comes_from(tmp_path: Path) -> None:
    """Also when one row becomes several, and when others were left out."""
    rows = [
        {"messages": messages("u:" + "a" * 90, "a:b")},
        {"messages": messages("u:a", "a:b", "u:c", "a:d"), "line": 7, "source": "other.jsonl"},
        {"messages": messages("u:a", "a:b")},
    ]
    tokens = tokenized(tmp_path, rows, with_template(FORGETS_THOUGHTS), max_length=80)
    places = [(r["source"], r["line"], r["row"]) for r in tokens.train]
    assert places == [("other.jsonl", 7, 1), ("other.jsonl", 7, 1), ("rows.jsonl", 3, 2)]


def test_weights_are_stored_where_a_token_weighs_other_than_one(tmp_path: Path) -> None:
    chat = messages("u:a", "a:b", "u:c", "a:d")
    weighted = [{**m, "weight": 0.5 if m["content"] == "b" else None} for m in chat]
    rows = [{"messages": chat}, {"messages": weighted}]
    tokens = tokenized(tmp_path, rows, train_on="weights")
    assert tokens.train[0]["weights"] is None
    row = tokens.train[1]
    by_token = dict(zip(row["input_ids"], row["weights"], strict=True))
    assert (by_token[ids("b")[0]], by_token[ids("d")[0]], by_token[ids("c")[0]]) == (0.5, 1.0, 0.0)


def test_a_stop_ends_it_and_a_second_go_starts_afresh(tmp_path: Path) -> None:
    recorder = Recorder()
    rows = [{"messages": messages("u:a", f"a:{i}")} for i in range(600)]
    value = write(tmp_path / "data", rows)
    stopped = make_context(tmp_path, recorder, stop=lambda: bool(recorder.named("Progress")))
    options: dict[str, Any] = {
        "max_length": 99,
        "train_on": "answers",
        "folder": tmp_path / "tokens",
    }
    with pytest.raises(Stopped):
        tokenize_dataset(stopped, value, make_tiny_tokenizer(), **options)
    context = make_context(tmp_path, Recorder())
    assert len(tokenize_dataset(context, value, make_tiny_tokenizer(), **options).train) == 600
