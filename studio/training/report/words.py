"""Turns the totals into findings with sentences.

Severity and text of every kind of finding are defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from studio.preview.report import KINDS, Finding, Fix, Severity
from studio.system.number_text import percent
from studio.training.report.totals import Found, Totals

_REPEATED_SHARE, _REPEATED_ROWS = 0.05, 10
_ORDER = {"error": 0, "warning": 1, "info": 2}

_DROPPED = (
    "refused_row",
    "zero_trained",
    "empty_answer",
    "role_error",
    "encoding",
    "near_duplicate",
    "near_leak",
)
"""Findings that are fixed by excluding the rows."""

# Code -> severity, and the sentence for one row and for {n} rows.
_WORDS: dict[str, tuple[Severity, str, str]] = {
    "bad_row": ("error", "1 row cannot be read.", "{n} rows cannot be read."),
    "broken_file": (
        "error",
        "1 file cannot be read to its end, and a training stops there.",
        "{n} files cannot be read to their end, and a training stops there.",
    ),
    "refused_row": (
        "error",
        "1 row cannot be trained on as it is.",
        "{n} rows cannot be trained on as they are.",
    ),
    "zero_trained": (
        "warning",
        "1 row has no token to train and is left out.",
        "{n} rows have no token to train and are left out.",
    ),
    "empty_answer": ("warning", "1 row has an empty answer.", "{n} rows have an empty answer."),
    "one_token_answer": (
        "info",
        "1 row has an answer of one token.",
        "{n} rows have an answer of one token.",
    ),
    "cut_answer": (
        "warning",
        "1 row loses the end of its answer to the max length of {max_length} tokens.",
        "{n} rows lose the end of their answer to the max length of {max_length} tokens.",
    ),
    "cut_text": (
        "warning",
        "1 text is longer than {max_length} tokens; the rest is not trained.",
        "{n} texts are longer than {max_length} tokens; the rest is not trained.",
    ),
    "split_text": (
        "info",
        "1 text is longer than {max_length} tokens and is split into pieces.",
        "{n} texts are longer than {max_length} tokens and are split into pieces.",
    ),
    "cut_row": (
        "info",
        "1 row is longer than {max_length} tokens and is cut.",
        "{n} rows are longer than {max_length} tokens and are cut.",
    ),
    "missing_end": (
        "warning",
        "1 row ends its answer without an end token, so the model does not learn to stop.",
        "{n} rows end their answer without an end token, so the model does not learn to stop.",
    ),
    "double_bos": (
        "warning",
        "1 row begins with two start tokens.",
        "{n} rows begin with two start tokens.",
    ),
    "role_error": (
        "warning",
        "In 1 row the roles are out of order.",
        "In {n} rows the roles are out of order.",
    ),
    "encoding": (
        "warning",
        "1 row contains damaged characters.",
        "{n} rows contain damaged characters.",
    ),
    "duplicate": (
        "warning",
        "1 row has the same content as an earlier one.",
        "{n} rows have the same content as an earlier one.",
    ),
    "near_duplicate": (
        "info",
        "1 row is nearly the same as an earlier one.",
        "{n} rows are nearly the same as an earlier one.",
    ),
    "leak": (
        "warning",
        "1 validation row is also trained on, so the validation loss is too low.",
        "{n} validation rows are also trained on, so the validation loss is too low.",
    ),
    "near_leak": (
        "warning",
        "1 validation row is nearly the same as one that is trained on.",
        "{n} validation rows are nearly the same as one that is trained on.",
    ),
}


def findings(
    totals: Totals,
    max_length: int,
    fixes: Mapping[str, Fix],
    drop: Callable[[str, Found], Fix | None],
    *,
    skipped: bool,
) -> tuple[Finding, ...]:
    """All findings, the most severe first.

    ``fixes`` are by code, ``drop`` makes the fix that excludes rows, and ``skipped`` is set if
    invalid rows are skipped.
    """
    everything = {**totals.found, "leak": totals.leaks()}
    made = []
    for code, found in everything.items():
        fix = fixes.get(code)
        if fix is None and code in _DROPPED and found.count * 2 <= totals.done:
            fix = drop(code, found)
        if found.count:
            made.append(_finding(code, found, max_length, fix, skipped, totals.done))
    if totals.complete and totals.done and not totals.split().trained:
        made.append(_nothing_trained(totals, fixes))
    made += _repeated(totals)
    order = list(KINDS)
    return tuple(sorted(made, key=lambda f: (_ORDER[f.severity], order.index(f.code))))


def _finding(
    code: str, found: Found, max_length: int, fix: Fix | None, skipped: bool, done: int
) -> Finding:
    severity, one, many = _WORDS[code]
    sentence = (one if found.count == 1 else many).format(n=found.count, max_length=max_length)
    if code == "bad_row" and found.count * 2 > done:
        fix = None  # most rows are affected: the format or its settings are wrong
    if code == "bad_row" and skipped:
        severity, fix = "warning", None
        sentence = sentence.removesuffix(".") + "; skipped, as set on the Dataset node."
    return Finding(code, severity, sentence, found.count, tuple(found.places), fix)


def _nothing_trained(totals: Totals, fixes: Mapping[str, Fix]) -> Finding:
    places = totals.found.get("zero_trained", Found()).places
    return Finding(
        "nothing_trained",
        "error",
        f"None of the {totals.done} rows has a token to train.",
        totals.done,
        tuple(places),
        fixes.get("zero_trained"),
    )


def _repeated(totals: Totals) -> list[Finding]:
    """One answer that occurs in a large share of the rows."""
    most = totals.answers.most_repeated(1)
    if not most or most[0].count < max(_REPEATED_ROWS, _REPEATED_SHARE * totals.answers.total):
        return []
    text, share = most[0].text, most[0].count / totals.answers.total
    shown = text if len(text) <= 60 else text[:60] + "…"
    sentence = f"{most[0].count} rows ({percent(share)}) have the answer “{shown}”."
    return [Finding("repeated_answer", "info", sentence, most[0].count)]
