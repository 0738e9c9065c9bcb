"""From the tally to the findings, in sentences.

Every kind of finding has its severity and its words here. It must not look at rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from studio.preview.report import KINDS, Finding, Fix, Severity
from studio.system.number_text import percent
from studio.training.report.tally import Found, Tally

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
"""Findings that are mended by leaving the rows out."""

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
        "In 1 row nothing is trained, so it is left out.",
        "In {n} rows nothing is trained, so they are left out.",
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
        "1 text is longer than {max_length} tokens; what is behind them is not trained.",
        "{n} texts are longer than {max_length} tokens; what is behind them is not trained.",
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
        "1 row holds damaged characters.",
        "{n} rows hold damaged characters.",
    ),
    "duplicate": (
        "warning",
        "1 row says exactly what an earlier one says.",
        "{n} rows say exactly what an earlier one says.",
    ),
    "near_duplicate": (
        "info",
        "1 row is nearly the same as an earlier one.",
        "{n} rows are nearly the same as an earlier one.",
    ),
    "leak": (
        "warning",
        "1 validation row is also trained on, so the validation loss flatters the model.",
        "{n} validation rows are also trained on, so the validation loss flatters the model.",
    ),
    "near_leak": (
        "warning",
        "1 validation row is nearly the same as one that is trained on.",
        "{n} validation rows are nearly the same as one that is trained on.",
    ),
}


def findings(
    tally: Tally,
    max_length: int,
    fixes: Mapping[str, Fix],
    drop: Callable[[str, Found], Fix | None],
    *,
    complete: bool,
    skipped: bool,
) -> tuple[Finding, ...]:
    """Every finding, the worst first. ``fixes`` are by code, and ``drop`` makes the one that leaves
    rows out; ``skipped`` says that the user lets bad rows be left out."""
    everything = {**tally.found, "leak": tally.leaks()}
    made = []
    for code, found in everything.items():
        fix = fixes.get(code)
        if fix is None and code in _DROPPED and found.count * 2 <= tally.done:
            fix = drop(code, found)
        if found.count:
            made.append(_finding(code, found, max_length, fix, skipped, tally.done))
    if complete and tally.done and not tally.trained:
        made.append(_nothing_trained(tally, fixes))
    made += _repeated(tally)
    order = list(KINDS)
    return tuple(sorted(made, key=lambda f: (_ORDER[f.severity], order.index(f.code))))


def _finding(
    code: str, found: Found, max_length: int, fix: Fix | None, skipped: bool, done: int
) -> Finding:
    severity, one, many = _WORDS[code]
    sentence = (one if found.count == 1 else many).format(n=found.count, max_length=max_length)
    if code == "bad_row" and found.count * 2 > done:
        fix = None  # most rows: then the format or its settings are wrong, not the rows
    if code == "bad_row" and skipped:
        severity, fix = "warning", None
        sentence = sentence.removesuffix(".") + "; skipped, as the Dataset node says."
    return Finding(code, severity, sentence, found.count, tuple(found.places), fix)


def _nothing_trained(tally: Tally, fixes: Mapping[str, Fix]) -> Finding:
    places = tally.found.get("zero_trained", Found()).places
    return Finding(
        "nothing_trained",
        "error",
        f"Not one token of the {tally.done} rows would be trained.",
        tally.done,
        tuple(places),
        fixes.get("zero_trained"),
    )


def _repeated(tally: Tally) -> list[Finding]:
    """One answer that stands in a large part of the rows."""
    most = tally.answers.most_repeated(1)
    if not most or most[0].count < max(_REPEATED_ROWS, _REPEATED_SHARE * tally.answers.total):
        return []
    text, share = most[0].text, most[0].count / tally.answers.total
    shown = text if len(text) <= 60 else text[:60] + "…"
    sentence = f"{most[0].count} rows ({percent(share)}) have the answer “{shown}”."
    return [Finding("repeated_answer", "info", sentence, most[0].count)]
