"""Rows and reports as the data host would send them, made by hand."""

from __future__ import annotations

from studio.preview.report import (
    Change,
    DataReport,
    Finding,
    Fix,
    Histogram,
    Place,
    Repeat,
    Share,
)
from studio.preview.tokens import IGNORED, RoleSpan, State, Token, TokenRow


def token(text: str, state: State = "context", number: int = 7, special: bool = False) -> Token:
    """A token; a trained one has its id as label."""
    label = number if state == "trained" else IGNORED
    return Token(number, text, state, label, None, None, special)


def chat_row(number: int = 3) -> TokenRow:
    """A question, an answer, something cut and padding."""
    tokens = (
        token("<s>", special=True),
        token("Hi"),
        token(" there"),
        token("\n"),
        token("Hello", "trained", 11),
        token(" you", "trained", 12),
        token("</s>", "trained", 2, True),
        token("more", "cut", 13),
        token("<pad>", "padding", 0, True),
    )
    roles = (RoleSpan("user", 0, 4), RoleSpan("assistant", 4, 8))
    return TokenRow(
        number,
        "/data/chats.jsonl",
        number + 1,
        "train",
        "Hi there\nHello you",
        tokens,
        roles,
        flags=("cut_answer",),
    )


FIX = Fix("deduplicate", "Remove duplicates", (Change("data", "deduplicate", True),))


def report(**changes: object) -> DataReport:
    """A report with two findings, one of which can be mended."""
    rows = (Place(5, "/data/chats.jsonl", 6, "identical to row 2", 2),)
    values: dict[str, object] = {
        "rows": 40,
        "done": 40,
        "max_length": 64,
        "train_on": "answers",
        "train_rows": 36,
        "validation_rows": 4,
        "tokens": 1000,
        "tokens_per_epoch": 900,
        "trained_tokens": 450,
        "histogram": Histogram((10, 30, 50, 65, 80), (3, 20, 10, 7), 64, 7, 2, 79),
        "scripts": (Share("Latin", 0.98), Share("Greek", 0.02)),
        "answers": (Repeat("Yes & no", 4, 9),),
        "findings": (
            Finding("duplicate", "warning", "1 row says what an earlier one says.", 1, rows, FIX),
            Finding("cut_row", "info", "7 rows are cut.", 7, rows * 7),
        ),
    }
    return DataReport(**{**values, **changes})  # type: ignore[arg-type]
