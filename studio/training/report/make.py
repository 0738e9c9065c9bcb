"""The data report: reads every row once, in slices, and evaluates it as in training.

``row_facts`` checks a row, ``totals`` accumulates, ``words`` and ``fixes`` turn the totals into
findings. This module reads the rows and reports progress.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from studio.preview.protocol import Kind
from studio.preview.report import DataReport, Histogram
from studio.preview.report_cache import keep
from studio.runs.token_request import TokenRequest
from studio.training.data.by_number import Rows
from studio.training.report.fixes import (
    drop_fix,
    fixes_for,
    ignore_fix,
    setting_of,
    template_fixes,
)
from studio.training.report.near_duplicates import MOST_ROWS
from studio.training.report.row_facts import facts_of
from studio.training.report.row_index import RowIndex
from studio.training.report.totals import Totals
from studio.training.report.words import findings
from studio.training.tokens.encoder import Encoder
from studio.training.tokens.left_out import WORDS
from studio.training.tokens.ways_out import WayOut, way_out

SLICE_S = 0.08
PROGRESS_EVERY_S, PARTIAL_EVERY_S = 0.25, 2.0
MOST_AT_ONCE = 256
_BINS = 24
_MOST_LENGTHS = 1000

Answer = Iterator[tuple[Kind, Mapping[str, Any]] | None]


class Pace:
    """The number of rows per slice, from the time of the last slices."""

    def __init__(self) -> None:
        self.rows = 8

    def took(self, seconds: float) -> None:
        """Record the time that the last ``rows`` rows took."""
        if seconds < SLICE_S / 2:
            self.rows = min(MOST_AT_ONCE, self.rows * 2)
        elif seconds > SLICE_S:
            self.rows = max(1, self.rows // 2)


@dataclass
class ReportMaker:
    """Creates the report of one data set; findings per row are written into ``index``."""

    request: TokenRequest
    rows: Rows
    encoder: Encoder
    index: RowIndex
    longest_taken: int | None = None
    notes: tuple[str, ...] = ()
    ways: dict[str, WayOut] = field(default_factory=dict)

    def run(self) -> Answer:
        """Yields progress, partial reports and the result."""
        pace = Pace()
        totals = Totals(self.rows.settings, self.rows.count)
        began = reported = shown = time.monotonic()
        first = 1
        while first <= self.rows.count:
            started = time.monotonic()
            last = min(self.rows.count, first + pace.rows - 1)
            yield from self._look(totals, first, last)
            first = last + 1
            now = time.monotonic()
            pace.took(now - started)
            if now - reported >= PROGRESS_EVERY_S:
                reported = now
                yield "progress", _progress(last, self.rows.count, now - began)
            if now - shown >= PARTIAL_EVERY_S:
                shown = now
                yield "partial", {"report": self._report(totals).to_json()}
            yield None
        for pairs in totals.near.pairs():
            totals.add_near(pairs)
            yield None
        report = self._report(totals)
        keep(report)
        yield "result", {"report": report.to_json()}

    def _look(self, totals: Totals, first: int, last: int) -> Iterator[None]:
        items = self.rows.rows(first, last)
        for facts in facts_of(self.request.title, self.encoder, items):
            if facts is None:
                yield None
                continue
            again = totals.add(facts)
            self.index.put(facts.item.number, [*facts.marks, *["duplicate"] * again])
            for code in WORDS.keys() & facts.marks.keys() & totals.found.keys() - self.ways.keys():
                assert facts.row is not None  # only rendered rows have these codes
                self.ways[code] = way_out(
                    self.encoder.tokenizer, facts.row, self.encoder.train_on, code
                )

    def _report(self, totals: Totals) -> DataReport:
        length = self.request.max_length
        lengths = np.array(totals.lengths, dtype=np.int64)
        fixes = fixes_for(self.request, lengths, self.longest_taken)
        fixes |= template_fixes(self.request, {c: w.template for c, w in self.ways.items()})
        ignore = ignore_fix(self.request, totals.unused)
        if ignore is not None:
            fixes["unused_column"] = ignore
        split = totals.split()
        return DataReport(
            rows=self.rows.count,
            done=totals.done,
            max_length=length,
            train_on=self.request.train_on,
            key=self.request.key,
            bad_rows=totals.bad,
            left_out=split.left_out,
            train_rows=split.train_rows,
            train_pieces=split.train_pieces,
            validation_rows=split.validation_rows,
            tokens=totals.tokens,
            tokens_per_epoch=split.fed,
            trained_tokens=split.trained,
            histogram=replace(
                histogram(lengths, length, totals.cut, totals.end_lost), divided=totals.divided
            ),
            scripts=totals.scripts.shares(),
            answers=totals.answers.most_repeated(),
            longest=tuple(place for _, place in totals.longest),
            findings=findings(
                totals,
                length,
                fixes,
                partial(drop_fix, self.request),
                skipped=setting_of(self.request, "on_bad_rows") == "skip",
                ways={code: way.text for code, way in self.ways.items()},
            ),
            notes=(*self.rows.notes, *self.notes, *_notes(totals)),
        )


def histogram(lengths: Any, max_length: int, cut: int, end_lost: int) -> Histogram:
    """About two dozen bins of a round width.

    The last bin contains the few longest rows. If rows are truncated, a bin begins at the first
    truncated length.
    """
    if not len(lengths):
        return Histogram(max_length=max_length)
    shortest, longest = int(lengths.min()), int(lengths.max())
    usual = min(longest, max(int(np.quantile(lengths, 0.995)) * 3 // 2, 1))
    width = _round_up((usual - shortest + 1) / _BINS)
    edges = set(range(shortest // width * width, usual + 1, width))
    edges |= {longest + 1} | ({max_length + 1} if longest > max_length else set())
    bins = sorted(edges)
    counts, _ = np.histogram(lengths, bins=bins)
    grain, found, rows = _by_length(lengths)
    return Histogram(
        tuple(bins),
        tuple(int(c) for c in counts),
        max_length,
        cut,
        end_lost,
        longest,
        lengths=found,
        rows=rows,
        grain=grain,
    )


def _by_length(lengths: Any) -> tuple[int, tuple[int, ...], tuple[int, ...]]:
    """The occurring lengths, rounded up to limit their number, and the number of rows of each."""
    grain = 1
    while True:
        found, rows = np.unique(-(-lengths // grain) * grain, return_counts=True)
        if len(found) <= _MOST_LENGTHS:
            return grain, tuple(found.tolist()), tuple(rows.tolist())
        grain *= 2


def _round_up(width: float) -> int:
    """The next of 1, 2, 5, 10, 20, 50 ..."""
    power = 1
    while True:
        for step in (1, 2, 5):
            if step * power >= width:
                return step * power
        power *= 10


def _progress(done: int, total: int, seconds: float) -> dict[str, Any]:
    left = seconds * (total - done) / done if done else None
    return {
        "title": "Analyzing rows",
        "phase": "report",
        "done": done,
        "total": total,
        "unit": "rows",
        "eta_s": None if left is None else round(left, 1),
    }


def _notes(totals: Totals) -> tuple[str, ...]:
    notes = []
    if totals.near.is_full:
        notes.append(f"Only the first {MOST_ROWS} rows were searched for near-duplicates.")
    if totals.hashes_full:
        notes.append(
            "There are too many rows to search all of them for duplicates; later ones are not "
            "included."
        )
    return tuple(notes)
