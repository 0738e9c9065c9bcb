"""Turns the totals into findings with sentences.

Severity and text of every kind of finding are defined here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from studio.preview.report import KINDS, Finding, Fix, Severity
from studio.system.number_text import percent, quantity
from studio.training.report.totals import Found, Totals
from studio.training.tokens import left_out

_NAMED = 20
_REPEATED_SHARE, _REPEATED_ROWS = 0.05, 10
_ORDER = {"error": 0, "warning": 1, "info": 2}

_DROPPED = (
    "refused_row",
    "zero_trained",
    "empty_answer",
    "control_tokens",
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
        "1 file cannot be read completely, and training would stop there.",
        "{0} files cannot be read completely, and training would stop there.",
    ),
    "refused_row": (
        "error",
        "1 row cannot be used for training as it is.",
        "{n} rows cannot be used for training as they are.",
    ),
    "zero_trained": (
        "warning",
        "1 row has no trained token and is skipped.",
        "{n} rows have no trained token and are skipped.",
    ),
    "empty_answer": ("warning", "1 row has an empty answer.", "{n} rows have an empty answer."),
    "one_token_answer": (
        "info",
        "1 row has a one-token answer.",
        "{n} rows have a one-token answer.",
    ),
    "cut_answer": (
        "warning",
        "1 row is truncated within its answer at the max length of {max_length} tokens.",
        "{n} rows are truncated within their answer at the max length of {max_length} tokens.",
    ),
    "cut_text": (
        "warning",
        "1 text is longer than {max_length} tokens; the rest is not trained on.",
        "{n} texts are longer than {max_length} tokens; the rest is not trained on.",
    ),
    "split_text": (
        "info",
        "1 text is longer than {max_length} tokens and is split into several rows.",
        "{n} texts are longer than {max_length} tokens and are split into several rows.",
    ),
    "cut_row": (
        "info",
        "1 row is longer than {max_length} tokens and is truncated.",
        "{n} rows are longer than {max_length} tokens and are truncated.",
    ),
    "missing_end": (
        "warning",
        "The answer of 1 row has no end token, so the model does not learn to stop.",
        "The answers of {n} rows have no end token, so the model does not learn to stop.",
    ),
    "double_bos": (
        "warning",
        "1 row starts with two BOS tokens.",
        "{n} rows start with two BOS tokens.",
    ),
    "unused_column": (
        "warning",
        "1 row has columns or keys that are not used for training: {names}.",
        "{n} rows have columns or keys that are not used for training: {names}.",
    ),
    "rendered_chat": (
        "warning",
        "1 text is a conversation that a chat template has already rendered; its questions are trained, too.",
        "{n} texts are conversations that a chat template has already rendered; their questions are trained, too.",
    ),
    "control_tokens": (
        "warning",
        "1 row contains a control token in its text, which the model reads as a mark of the template.",
        "{n} rows contain control tokens in their text, which the model reads as marks of the template.",
    ),
    "written_end": (
        "info",
        "1 row already ends an answer or a text with an end token; no second one is added.",
        "{n} rows already end an answer or a text with an end token; no second one is added.",
    ),
    "role_error": (
        "warning",
        "The roles are out of order in 1 row.",
        "The roles are out of order in {n} rows.",
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
        "1 row is nearly identical to an earlier one.",
        "{n} rows are nearly identical to earlier ones.",
    ),
    "leak": (
        "warning",
        "1 validation row is also a training row, so the validation loss is too low.",
        "{n} validation rows are also training rows, so the validation loss is too low.",
    ),
    "near_leak": (
        "warning",
        "1 validation row is nearly identical to a training row.",
        "{n} validation rows are nearly identical to training rows.",
    ),
    **left_out.WORDS,
}


def findings(
    totals: Totals,
    max_length: int,
    fixes: Mapping[str, Fix],
    drop: Callable[[str, Found], Fix | None],
    *,
    skipped: bool,
    ways: Mapping[str, str],
) -> tuple[Finding, ...]:
    """All findings, the most severe first.

    ``fixes`` are by code, ``drop`` makes the fix that excludes rows, and ``skipped`` is set if
    invalid rows are skipped. ``ways`` are sentences by code that say what to do.
    """
    everything = {**totals.found, "leak": totals.leaks()}
    names = unused_names(totals)
    made = []
    for code, found in everything.items():
        fix = fixes.get(code)
        if fix is None and code in _DROPPED and found.count * 2 <= totals.done:
            fix = drop(code, found)
        if found.count:
            finding = _finding(code, found, max_length, names, fix, skipped, totals.done)
            way = ways.get(code, "")
            made.append(replace(finding, sentence=f"{finding.sentence} {way}".rstrip()))
    if totals.complete and totals.done and not totals.split().trained:
        made.append(_nothing_trained(totals, fixes))
    made += _repeated(totals)
    order = list(KINDS)
    return tuple(sorted(made, key=lambda f: (_ORDER[f.severity], order.index(f.code))))


def _finding(
    code: str, found: Found, max_length: int, names: str, fix: Fix | None, skipped: bool, done: int
) -> Finding:
    severity, one, many = _WORDS[code]
    sentence = (one if found.count == 1 else many).format(
        n=found.count, max_length=max_length, names=names
    )
    if code == "rendered_chat" and found.count * 2 <= done:
        fix = None  # the other rows could not be read as conversations
    if code == "bad_row" and found.count * 2 > done:
        fix = None  # most rows are affected: the format or its settings are wrong
    if code == "bad_row" and skipped:
        severity, fix = "warning", None
        sentence = sentence.removesuffix(".") + "; skipped, as set on the Dataset node."
    return Finding(code, severity, sentence, found.count, tuple(found.places), fix)


def unused_names(totals: Totals) -> str:
    """The columns and keys that are not used, with their number of rows where it differs."""
    rows = totals.found.get("unused_column", Found()).count
    named = [
        f"“{name}”" + (f" ({quantity(count, 'row')})" if count < rows else "")
        for name, count in totals.unused.most_common(_NAMED)
    ]
    more = len(totals.unused) - len(named)
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _nothing_trained(totals: Totals, fixes: Mapping[str, Fix]) -> Finding:
    places = totals.found.get("zero_trained", Found()).places
    return Finding(
        "nothing_trained",
        "error",
        f"None of the {quantity(totals.done, 'row')} has trained tokens.",
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
    sentence = f"{quantity(most[0].count, 'row')} ({percent(share)}) have the answer “{shown}”."
    return [Finding("repeated_answer", "info", sentence, most[0].count)]
