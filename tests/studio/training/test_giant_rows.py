"""Rows of over a million characters: report and training count the same pieces and tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.preview.report import DataReport
from studio.training.report import row_facts
from tests.studio.training.test_data import tokenized
from tests.studio.training.test_report import lines_of, report_on


def report_of(folder: Path, rows: list[Any], **more: Any) -> DataReport:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return report_on(path, **more)


def test_a_text_of_over_a_million_characters_is_trained_in_pieces(tmp_path: Path) -> None:
    rows = [{"text": "The bird sings. " * 65_000}]
    report = report_of(tmp_path, rows, long_text="split")
    assert lines_of(report) == {"split_text": [1]}  # nothing blocks a run
    tokens = tokenized(tmp_path, rows, max_length=400, long_text="split")
    assert tokens.counts.pieces == tokens.counts.rows == 2607
    assert report.findings[0].rows[0].note == "1040001 tokens, 2607 rows"
    assert report.trained_tokens == tokens.counts.trained == 1_040_000
    assert report.tokens_per_epoch == tokens.counts.tokens


def _chat(question: str, answer: str) -> dict[str, Any]:
    said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": said}


@pytest.mark.parametrize(
    ("row", "long_text", "codes"),
    [
        ({"text": "a b " * 500}, "cut", {"cut_text"}),
        ({"text": "a b " * 500}, "split", {"split_text"}),
        ({"text": "é 雪 🙂 " * 400}, "split", {"split_text"}),
        (_chat("who?", "a b " * 500), "cut", {"cut_row", "cut_answer"}),
        (_chat("a b " * 500, "me"), "cut", {"cut_row", "cut_answer", "zero_trained"}),
        ({"prompt": "who?", "completion": "a b " * 500}, "split", {"cut_row", "cut_answer"}),
        ({"text": "a b " * 499 + "<|im_end|>"}, "split", {"split_text"}),
    ],
)
def test_report_and_training_agree_on_every_kind_of_giant_row(
    row: Any, long_text: str, codes: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_facts, "GIANT", 1000)  # a real one takes seconds
    rows = [dict.fromkeys(row, "short") if "messages" not in row else _chat("a", "b"), row, row]
    raw = {"format": "prompt_completion", "format_settings": {"chat_template": False}}
    report = report_of(tmp_path, rows, long_text=long_text, **(raw if "prompt" in row else {}))
    found = lines_of(report)
    assert codes <= set(found), found
    assert "nothing_trained" not in found
    assert all(found[code] == [2, 3] for code in codes)
    tokens = tokenized(tmp_path, rows, max_length=400, long_text=long_text)
    assert report.trained_tokens == tokens.counts.trained
    assert report.tokens_per_epoch == tokens.counts.tokens
    assert report.histogram.divided == tokens.counts.divided


def test_only_giant_rows_block_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_facts, "GIANT", 1000)
    report = report_of(tmp_path, [{"text": "a b " * 500}] * 3, long_text="split")
    assert not report.errors
    assert report.trained_tokens == 3 * 2000


def test_a_giant_row_without_an_answer_blocks_as_the_training_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from studio.errors import StudioError

    monkeypatch.setattr(row_facts, "GIANT", 1000)
    rows = [_chat("a b " * 500, "me")]
    report = report_of(tmp_path, rows)
    assert [f.code for f in report.errors] == ["nothing_trained"]
    with pytest.raises(StudioError, match="no tokens of the"):
        tokenized(tmp_path, rows, max_length=400)
