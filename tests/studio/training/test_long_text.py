"""Plain text that is longer than the max length, split into pieces: every token trained exactly once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from studio.cli.data_report import report_text
from studio.cli.token_text import paint_for, row_text
from studio.errors import Stopped
from studio.preview.tokens import TokenRow
from studio.training.data_host.token_view import MOST_CUT, SourceRow, view_rows
from studio.training.loop.train import train_adapter
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.labels import Encoded
from studio.training.tokens.pieces import pieces_of
from tests.studio.training.steps import Recorder, make_context, make_inputs, settings_of
from tests.studio.training.test_data import (
    ids,
    messages,
    sentences_of,
    tokenized,
    word_tokenizer,
    write,
)
from tests.studio.training.test_report import report_on
from tests.studio.training.test_train_resume import adapter_bytes, stop_after
from tests.tiny import END_ID, START_ID, make_tiny_tokenizer


def bos_tokenizer() -> Any:
    """Byte tokens; plain text begins with START and ends with END."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = make_tiny_tokenizer()
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|im_start|> $A", special_tokens=[("<|im_start|>", START_ID)]
    )
    return tokenizer


def trimming_tokenizer() -> Any:
    """Leaves blanks out of the places of its tokens, as GPT-2's does."""
    from tokenizers.processors import ByteLevel

    tokenizer = make_tiny_tokenizer()
    tokenizer.backend_tokenizer.post_processor = ByteLevel(trim_offsets=True)
    return tokenizer


def test_golden_pieces_with_bos_and_end_at_the_true_ends(tmp_path: Path) -> None:
    recorder = Recorder()
    rows = [{"text": "abcdefghijklmnopq"}, {"text": "abcdef"}]
    tokens = tokenized(tmp_path, rows, bos_tokenizer(), recorder, max_length=8, long_text="split")
    assert [(r["input_ids"], r["labels"]) for r in tokens.train] == [
        ([START_ID, *ids("abcdefg")], [-100, *ids("abcdefg")]),
        (ids("ghijklmn"), [-100, *ids("hijklmn")]),
        ([*ids("nopq"), END_ID], [-100, *ids("opq"), END_ID]),
        ([START_ID, *ids("abcdef"), END_ID], [-100, *ids("abcdef"), END_ID]),  # exactly 8
    ]
    assert (tokens.train["row"], tokens.train["line"]) == ([0, 0, 0, 1], [1, 1, 1, 2])
    assert tokens.counts.trained == 18 + 7
    said = sentences_of(recorder)
    split = "1 row was longer than 8 tokens and split into 3 rows; the first is line 1."
    assert split in said
    assert not any("cut" in s for s in said)


def test_every_token_is_trained_once_and_no_piece_is_without() -> None:
    for length in (2, 3, 8, 9):
        for size in range(2, 60):
            row = Encoded(list(range(size)), list(range(size)))
            pieces = pieces_of(row, length)
            trained = [v for p in pieces for v in p.labels[1:]]
            assert trained == row.labels[1:], (length, size)
            assert all(1 < len(p.ids) <= length for p in pieces)
            assert all(p.ids[1:] == p.labels[1:] for p in pieces)
            assert all(p.labels[0] == -100 for p in pieces[1:])
            assert len(pieces) == -(-(size - 1) // (length - 1))  # not one more than is needed


def test_conversations_and_prompts_are_cut_all_the_same(tmp_path: Path) -> None:
    raw = [{"prompt": "ab", "completion": "c" * 50}]
    chat = [{"messages": messages("u:a", "a:" + "b" * 50)}]
    for name, rows in (("raw", raw), ("chat", chat)):
        tokens = tokenized(tmp_path / name, rows, max_length=30, long_text="split")
        assert [len(r) for r in tokens.train["input_ids"]] == [30]


def test_where_text_is_truncated_the_notice_says_what_to_do(tmp_path: Path) -> None:
    recorder = Recorder()
    tokens = tokenized(tmp_path, [{"text": "a" * 50}], recorder=recorder, max_length=30)
    assert tokens.train["input_ids"] == [ids("a" * 30)]
    (hint,) = [
        e.get("hint") for e in recorder.named("Notice") if "truncated" in str(e.get("sentence"))
    ]
    assert "to Split" in hint
    assert settings_of().long_text == "split"


# ------------------------------------------------------------------ what is shown


def view(
    rows: Sequence[dict[str, Any]], tokenizer: Any, length: int, **more: Any
) -> list[TokenRow]:
    encoder = Encoder(tokenizer, length, long_text="split")
    full = [{"source": "rows.jsonl", "line": n, **row} for n, row in enumerate(rows, start=1)]
    return view_rows("Train", encoder, [SourceRow(r["line"], "train", r) for r in full], **more)


@pytest.mark.parametrize("make", [bos_tokenizer, word_tokenizer, trimming_tokenizer])
def test_the_pieces_that_are_shown_are_those_of_a_training(make: Any, tmp_path: Path) -> None:
    rows = [{"text": "the bird sings ü 🙂 " * 9 + "end"}, {"text": "a"}, {"text": "ü 雪 🙂" * 5}]
    tokens = tokenized(tmp_path, rows, make(), max_length=13, long_text="split")
    shown = view(rows, make(), 13)
    got = [([t.id for t in r.kept], [t.label for t in r.kept]) for r in shown]
    assert got == [(r["input_ids"], r["labels"]) for r in tokens.train]
    assert sum(r.count("trained") for r in shown) == tokens.counts.trained
    first = [r for r in shown if r.number == 1]
    assert [r.part for r in first] == list(range(1, first[0].parts + 1))
    new = [r.text[t[0].end :] for r in first[1:] if (t := r.tokens)]
    assert first[0].text + "".join(new) == rows[0]["text"]  # no character is lost or shown twice
    assert (first[0].whole_trained, first[0].divided) == (
        sum(r.count("trained") for r in first),
        True,
    )
    for row in shown:
        whole = [t for t in row.tokens if not t.special and "�" not in t.text]
        assert [t.text for t in whole] == [row.text[t.start : t.end] for t in whole]


def test_of_very_many_pieces_the_first_and_the_last_are_shown_or_the_one_asked_for() -> None:
    rows = [{"text": "".join(chr(97 + i % 26) for i in range(5000))}]
    shown = view(rows, make_tiny_tokenizer(), 101)
    assert [r.part for r in shown] == [*range(1, (MOST_CUT + 101) // 100 + 2), 50]
    assert shown[-1].tokens[-1].id == END_ID
    assert shown[0].whole_tokens == 5001
    (one,) = view(rows, make_tiny_tokenizer(), 101, pieces={40})
    assert (one.part, one.parts) == (40, 50)
    assert one.text == rows[0]["text"][3900:4001]
    assert "piece 40 of 50 of a long text" in row_text(one, 1, paint_for(False, "utf-8"))


def test_the_report_counts_texts_and_pieces_and_offers_the_split(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    texts = [
        "".join(chr(97 + (i * 7 + n) % 26) for i in range(size))
        for n, size in enumerate((99, 20, 60))
    ]
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts), encoding="utf-8")
    cut = report_on(path, max_length=30, long_text="cut")
    found = {f.code: f for f in cut.findings}
    assert set(found) == {"cut_text"}
    assert [p.line for p in found["cut_text"].rows] == [1, 3]
    assert "is not trained" in found["cut_text"].sentence
    (change,) = found["cut_text"].fix.changes  # type: ignore[union-attr]
    assert (change.node, change.setting, change.value) == ("train", "long_text", "split")
    split = report_on(path, max_length=30, long_text="split")
    assert [(f.code, f.severity, f.count) for f in split.findings] == [("split_text", "info", 2)]
    assert [p.note for p in split.findings[0].rows] == [
        "100 tokens, 4 rows",
        "61 tokens, 3 rows",
    ]
    assert split.tokens == cut.tokens == 100 + 21 + 61
    assert (split.trained_tokens, split.tokens_per_epoch) == (99 + 20 + 60, 182 + 3 + 2)
    assert (split.histogram.longest, split.histogram.cut, sum(split.histogram.counts)) == (
        100,
        0,
        3,
    )
    assert "max length 30: 2 texts are split" in report_text(split)
    assert "max length 30: 2 rows are truncated" in report_text(cut)
    assert [p.note for p in split.longest] == ["100 tokens", "61 tokens", "21 tokens"]
    value = write(tmp_path / "data", [{"text": t} for t in texts])
    assert value.train_rows == split.train_rows
    tokens = tokenized(
        tmp_path / "t", [{"text": t} for t in texts], max_length=30, long_text="split"
    )
    assert tokens.counts.trained == split.trained_tokens
    assert tokens.counts.tokens == split.tokens_per_epoch


# ------------------------------------------------------------------ whole trainings


def text_inputs(root: Path) -> dict[str, Any]:
    """Texts of ragged lengths, most longer than 24 tokens."""
    inputs = make_inputs(root)
    texts = [" ".join(f"word{(i * j) % 7}" for i in range(4 + 5 * (j % 4))) for j in range(1, 9)]
    value = write(root / "texts", [{"text": t} for t in texts], held_out=2)
    return {**inputs, "dataset": value.to_json()}


def losses_of(root: Path, **settings: Any) -> list[float]:
    recorder = Recorder()
    chosen = settings_of(max_steps=5, max_length=24, long_text="split", **settings)
    train_adapter(make_context(root, recorder), text_inputs(root), chosen)
    evals = [e.get("eval_loss") for e in recorder.named("Metric") if e.get("eval_loss") is not None]
    return recorder.losses() + evals


def test_pieces_without_padding_have_the_losses_of_padded_ones(tmp_path: Path) -> None:
    padded = losses_of(tmp_path / "a")
    assert losses_of(tmp_path / "b", batching="padding_free") == pytest.approx(padded, abs=5e-5)


def test_a_packed_run_of_pieces_that_was_stopped_ends_with_the_same_bytes(tmp_path: Path) -> None:
    settings = settings_of(
        max_steps=6,
        max_length=24,
        pack_length=60,
        batching="packed",
        batch_size=1,
        long_text="split",
    )
    whole, first, second = Recorder(), Recorder(), Recorder()
    train_adapter(make_context(tmp_path / "a", whole), text_inputs(tmp_path / "a"), settings)
    inputs = text_inputs(tmp_path / "b")
    with pytest.raises(Stopped):
        train_adapter(make_context(tmp_path / "b", first, stop_after(first, 3)), inputs, settings)
    train_adapter(make_context(tmp_path / "b", second), inputs, settings)
    assert first.losses()[:3] + second.losses() == whole.losses()
    assert adapter_bytes(tmp_path / "b") == adapter_bytes(tmp_path / "a")
