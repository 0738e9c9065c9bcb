"""The data report: every row is looked at once, in slices, as a training would see it.

The parts: ``row_facts`` judges a row, ``report_tally`` collects, ``report_words`` and
``report_fixes`` say what it means. This module reads, counts and tells how far it is.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from studio.preview.protocol import Kind
from studio.preview.report import DataReport, Histogram
from studio.preview.report_cache import keep
from studio.runs.token_request import TokenRequest
from studio.training.data.by_number import Rows
from studio.training.report.fixes import drop_fix, fixes_for, setting_of
from studio.training.report.near_duplicates import MOST_ROWS
from studio.training.report.row_facts import facts_of
from studio.training.report.row_index import RowIndex
from studio.training.report.tally import Tally
from studio.training.report.words import findings
from studio.training.tokens.encoder import Encoder

SLICE_S = 0.08
PROGRESS_EVERY_S, PARTIAL_EVERY_S = 0.25, 2.0
MOST_AT_ONCE = 256
_BINS = 24
_MOST_LENGTHS = 1000

Answer = Iterator[tuple[Kind, Mapping[str, Any]] | None]


class Pace:
    """How many rows fit into a slice, judged by how long the last ones took."""

    def __init__(self) -> None:
        self.rows = 8

    def took(self, seconds: float) -> None:
        """The last ``rows`` rows took so long."""
        if seconds < SLICE_S / 2:
            self.rows = min(MOST_AT_ONCE, self.rows * 2)
        elif seconds > SLICE_S:
            self.rows = max(1, self.rows // 2)


@dataclass
class ReportMaker:
    """Makes the report of one set of data; ``index`` is told what is found."""

    request: TokenRequest
    rows: Rows
    encoder: Encoder
    index: RowIndex
    longest_taken: int | None = None

    def run(self) -> Answer:
        """Progress, partial reports and the result."""
        pace = Pace()
        tally = Tally(
            deduplicate=bool(setting_of(self.request, "deduplicate")),
            move_leaks=bool(setting_of(self.request, "drop_validation_leaks")),
        )
        began = told = shown = time.monotonic()
        first = 1
        while first <= self.rows.count:
            started = time.monotonic()
            last = min(self.rows.count, first + pace.rows - 1)
            self._look(tally, first, last)
            first = last + 1
            now = time.monotonic()
            pace.took(now - started)
            if now - told >= PROGRESS_EVERY_S:
                told = now
                yield "progress", _progress(last, self.rows.count, now - began)
            if now - shown >= PARTIAL_EVERY_S:
                shown = now
                yield "partial", {"report": self._report(tally).to_json()}
            yield None
        for pairs in tally.near.pairs():
            tally.add_near(pairs)
            yield None
        report = self._report(tally)
        keep(report)
        yield "result", {"report": report.to_json()}

    def _look(self, tally: Tally, first: int, last: int) -> None:
        items = self.rows.rows(first, last)
        for facts in facts_of(self.request.title, self.encoder, items):
            again = tally.add(facts)
            self.index.put(facts.item.number, [*facts.marks, *["duplicate"] * again])

    def _report(self, tally: Tally) -> DataReport:
        length = self.request.max_length
        lengths = np.array(tally.lengths, dtype=np.int64)
        complete = tally.done >= self.rows.count
        fixes = fixes_for(self.request, lengths, self.longest_taken)
        moved, moved_fed, moved_trained = tally.moved()
        return DataReport(
            rows=self.rows.count,
            done=tally.done,
            max_length=length,
            train_on=self.request.train_on,
            key=self.request.key,
            bad_rows=tally.bad,
            left_out=tally.left_out,
            train_rows=tally.train_rows + moved,
            validation_rows=tally.validation_rows - moved,
            tokens=tally.tokens,
            tokens_per_epoch=tally.fed + moved_fed,
            trained_tokens=tally.trained + moved_trained,
            histogram=replace(
                histogram(lengths, length, tally.cut, tally.end_lost), divided=tally.divided
            ),
            scripts=tally.scripts.shares(),
            answers=tally.answers.most_repeated(),
            longest=tuple(place for _, place in tally.longest),
            findings=findings(
                tally,
                length,
                fixes,
                partial(drop_fix, self.request),
                complete=complete,
                skipped=setting_of(self.request, "on_bad_rows") == "skip",
            ),
            notes=_notes(tally),
        )


def histogram(lengths: Any, max_length: int, cut: int, end_lost: int) -> Histogram:
    """About two dozen bins of a round width. The few longest rows share the last one; where rows are
    cut, a bin begins with the first length that is."""
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
    """The lengths that occur, rounded up so far that they are not too many, and the rows of each."""
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
        "title": "Looking at every row",
        "phase": "report",
        "done": done,
        "total": total,
        "unit": "rows",
        "eta_s": None if left is None else round(left, 1),
    }


def _notes(tally: Tally) -> tuple[str, ...]:
    notes = []
    if tally.near.is_full:
        notes.append(f"Near-duplicates were looked for in the first {MOST_ROWS} rows only.")
    if tally.hashes_full:
        notes.append(
            "There are more rows than duplicates could be looked for in; later ones are missing."
        )
    return tuple(notes)
