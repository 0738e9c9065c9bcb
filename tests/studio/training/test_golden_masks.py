"""Every format under ten real chat templates: the exact ids, labels and weights of hand-made rows.

``goldens/masks.json`` states them, with the text and its trained parts in brackets to check by eye;
``goldens/make_masks.py`` wrote it without using any of the code that is tested here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from studio.chat_templates import template
from studio.data.canonical import to_arrow
from studio.data.conversation import untrained
from studio.graph.registry import load_registry
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.masks import render_row
from tests.studio.training.goldens import make_masks
from tests.studio.training.goldens.make_masks import (
    CASES,
    FILE,
    RAW,
    TEMPLATES,
    TOOL_CASES,
    TOOLED,
    golden_tokenizer,
)

GOLDEN: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
ALL = {**CASES, **TOOL_CASES, **RAW}
EACH = [(c, t) for c in CASES for t in TEMPLATES] + [(c, "none") for c in RAW]
EACH += [(c, t) for c in TOOL_CASES for t in TOOLED]


def stored_row(case: dict[str, Any]) -> dict[str, Any]:
    """The row as the Dataset step stores it."""
    variant = load_registry().variants["format"][case["format"]]
    found = variant.payload.convert(case["row"], variant.settings(**case.get("settings", {})))
    row = {**found, "line": 1, "source": "rows.jsonl"}
    if "chosen" in row:  # for the later objective: the better answer, to a prompt that is context
        row["messages"] = [*untrained(row["messages"]), *row.pop("chosen")]
        del row["rejected"]
    return to_arrow(row)


@pytest.mark.parametrize(("case", "name"), EACH)
def test_ids_labels_and_weights_are_exactly_these(case: str, name: str) -> None:
    tokenizer = golden_tokenizer()
    if name != "none":
        tokenizer.chat_template = template(name).source
    train_on = ALL[case].get("train_on", "answers")
    texts = render_row(tokenizer, stored_row(ALL[case]), train_on)
    rows = Encoder(tokenizer, 10_000, train_on).encode(texts)
    got = [{"input_ids": r.ids, "labels": r.labels, "weights": r.weights} for r in rows]
    wanted = GOLDEN[case][name]
    assert got == [{k: row[k] for k in ("input_ids", "labels", "weights")} for row in wanted]
    assert texts[0].text in wanted[0]["text"].replace("⟦", "").replace("⟧", "")


def test_the_file_is_what_the_hand_made_rows_say() -> None:
    assert FILE.read_text(encoding="utf-8") == make_masks.as_json()


def test_every_format_is_there() -> None:
    assert {c["format"] for c in ALL.values()} == set(load_registry().variants["format"])
