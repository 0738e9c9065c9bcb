"""``report``: analyze all rows of a project's data, print the findings, and apply fixes.

The data host reads the rows. Progress goes to standard error; the exit code is 1 if a finding
blocks a run. ``--fix`` changes settings in the project file, never data.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from studio.cli.data_host import DataHost, opened, requested, tell_failure
from studio.cli.overrides import write_proposed
from studio.cli.token_text import visible
from studio.errors import StudioError
from studio.preview.report import (
    DataReport,
    Finding,
    Fix,
    Histogram,
    Place,
    apply_fix,
    report_from_json,
)
from studio.system.number_text import percent

_BAR = 32
_SHOWN = 5
_SIGNS = {"error": "✗", "warning": "!", "info": "·"}
_ASCII = str.maketrans(
    {"✗": "x", "·": "-", "█": "#", "▏": "#", "…": "...", "“": '"', "”": '"', "─": "-"}
)


def report(options: argparse.Namespace) -> int:
    """Print the report; 2 if the project or the arguments are invalid, 1 if a finding blocks a
    run."""
    request = requested(options)
    if request is None:
        return 2
    try:
        with DataHost() as host:
            opened(host, request, options)
            found = report_from_json(host.ask("report")["report"])
    except StudioError as error:
        return tell_failure(error)
    if options.fix is not None:
        return _apply(found, options)
    if options.json:
        print(json.dumps(found.to_json()))
    else:
        print(report_text(found, sys.stdout.encoding))
    return 1 if found.errors else 0


def _apply(found: DataReport, options: argparse.Namespace) -> int:
    """Apply a fix to the project file."""
    fix = found.fix(options.fix)
    if fix is None:
        offered = ", ".join(f.id for f in found.fixes())
        hint = f"Available: {offered}." if offered else "There are no fixes."
        print(f"The report has no fix “{options.fix}”. {hint}", file=sys.stderr)
        return 2
    write_proposed(options, lambda stored: apply_fix(stored, fix))
    if options.json:
        changes = {f"{c.node}.{c.setting}": c.value for c in fix.changes}
        print(json.dumps({"fix": fix.id, "changes": changes}))
    else:
        print(f"{fix.title}: {_changes(fix)}. Saved {options.file}.")
    return 0


def _changes(fix: Fix) -> str:
    return ", ".join(f"{c.node}.{c.setting} = {json.dumps(c.value)}" for c in fix.changes)


def report_text(report: DataReport, encoding: str | None = "utf-8") -> str:
    """The report, in characters that the encoding supports."""
    text = "\n".join(_lines(report))
    try:
        text.encode(encoding or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return text.translate(_ASCII)
    return text


def _lines(report: DataReport) -> Iterator[str]:
    bad = f", {report.bad_rows} unreadable" if report.bad_rows else ""
    bad += f", {report.left_out} excluded" if report.left_out else ""
    more = report.train_pieces > report.train_rows
    sequences = f" ({report.train_pieces} sequences)" if more else ""
    yield (
        f"{'1 row' if report.rows == 1 else f'{report.rows} rows'}: {report.train_rows} for training"
        f"{sequences}, {report.validation_rows} for validation{bad}"
    )
    yield (
        f"{report.tokens_per_epoch} tokens per epoch, {report.trained_tokens} of them trained "
        f"({percent(report.trained_share)})"
    )
    if report.scripts:
        yield "Writing systems: " + ", ".join(
            f"{s.name} {percent(s.share)}" for s in report.scripts
        )
    yield ""
    yield from _histogram(report.histogram)
    if report.longest:
        yield "Longest rows: " + ", ".join(f"{_place(p)} ({p.note})" for p in report.longest[:3])
    if report.answers:
        yield ""
        yield "Most repeated answers"
        for repeat in report.answers:
            yield f"  {repeat.count:>7} times  “{visible(_short(repeat.text))}”"
    yield ""
    if not report.findings:
        yield "No problems found."
    for finding in report.findings:
        yield from _finding(finding)
    yield from report.notes


def _histogram(found: Histogram) -> Iterator[str]:
    """A bar for each range of lengths, and a line at the maximum length."""
    if not found.counts:
        return
    yield "Tokens per row"
    most, marked = max(found.counts), False
    for first, after, count in zip(found.edges, found.edges[1:], found.counts, strict=False):
        if not marked and first > found.max_length:
            marked = True
            yield f"  {'─' * 13} max length {found.max_length}: {_cut(found)}"
        bar = "█" * round(_BAR * count / most) or ("▏" if count else "")
        yield f"  {first:>6}-{after - 1:<6} {bar} {count}".rstrip()
    if not marked and found.cut + found.divided:
        yield f"  {'─' * 13} max length {found.max_length}: {_cut(found)}"


def _cut(found: Histogram) -> str:
    if not found.cut:
        texts = "1 text is" if found.divided == 1 else f"{found.divided} texts are"
        return f"{texts} split" if found.divided else "no rows are truncated"
    rows = "1 row is truncated" if found.cut == 1 else f"{found.cut} rows are truncated"
    lost = "1 answer" if found.end_lost == 1 else f"{found.end_lost} answers"
    return f"{rows}; {lost} incomplete" if found.end_lost else rows


def _finding(finding: Finding) -> Iterator[str]:
    yield f"{_SIGNS[finding.severity]} {visible(finding.sentence)}"
    for place in finding.rows[:_SHOWN]:
        note = f": {visible(place.note)}" if place.note else ""
        yield f"    row {place.number}, {_place(place)}{note}"
    if finding.count > _SHOWN and finding.rows:
        yield f"    … {finding.count} in total"
    if finding.fix is not None:
        yield f"    --fix {finding.fix.id}: {finding.fix.title}"


def _place(place: Place) -> str:
    return f"{visible(Path(place.source).name)}:{place.line}"


def _short(text: str) -> str:
    first = " ".join(text.split())
    return first if len(first) <= 60 else first[:60] + "…"
