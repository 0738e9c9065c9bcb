"""Totals of the data report over all rows.

Memory is bounded for any number of rows: token counts, position and hash per row, the first positions
of each finding. Rows are read and encoded elsewhere; ``studio.data.split.sides`` decides their split.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from studio.data.canonical import content_hash
from studio.data.split.sides import Decision, SidesInOrder, leaks_among
from studio.node_settings.dataset import DatasetSettings
from studio.preview.report import Place, Repeat
from studio.system.number_text import percent
from studio.training.report.near_duplicates import NearDuplicates, Pair
from studio.training.report.row_checks import answer_of, texts_of
from studio.training.report.row_facts import Facts
from studio.training.report.scripts import Scripts

PLACES = 20
_MOST_ANSWERS = 200_000
_SHOWN_CHARACTERS = 200
_LONGEST = 10


@dataclass
class Found:
    """The number of occurrences of a finding, and the first positions."""

    count: int = 0
    places: list[Place] = field(default_factory=list)

    def add(self, place: Place) -> None:
        """Add one occurrence."""
        self.count += 1
        if len(self.places) < PLACES:
            self.places.append(place)


class Answers:
    """Counts equal answers. If there are very many, those that occurred once are discarded."""

    def __init__(self) -> None:
        self._counts: dict[str, list[int]] = {}
        self.total = 0

    def add(self, answer: str, number: int) -> None:
        """Count the answer of a row."""
        self.total += 1
        self._counts.setdefault(answer.strip()[:_SHOWN_CHARACTERS], [0, number])[0] += 1
        if len(self._counts) > _MOST_ANSWERS:
            self._counts = {a: c for a, c in self._counts.items() if c[0] > 1}

    def most_repeated(self, limit: int = 5) -> tuple[Repeat, ...]:
        """The answers that occur more than once, in descending order."""
        repeated = [Repeat(a, c, first) for a, (c, first) in self._counts.items() if c > 1 and a]
        return tuple(sorted(repeated, key=lambda r: (-r.count, r.number))[:limit])


@dataclass(frozen=True)
class SplitTotals:
    """The rows of each split, and of the training rows the sequences that training makes of them, the
    model's input tokens per epoch, and how many of these are trained."""

    train_rows: int
    train_pieces: int
    validation_rows: int
    left_out: int
    fed: int
    trained: int


class Totals:
    """All totals so far.

    ``settings`` are those of the Dataset node, or ``None`` for rows that were split before.
    ``rows`` is the number of rows that will be added.
    """

    def __init__(self, settings: DatasetSettings | None, rows: int) -> None:
        self._sides = SidesInOrder(settings)
        self._rows = rows
        self.found: dict[str, Found] = {}
        self.done = self.bad = self._left_out = 0
        self.tokens = self.cut = self.divided = self.end_lost = 0
        self.lengths = array("q")
        self.longest: list[tuple[int, Place]] = []
        self.answers = Answers()
        self.unused: Counter[str] = Counter()
        self.scripts = Scripts()
        self.near = NearDuplicates()
        # Of each row that is used:
        self._pieces, self._fed, self._trained = array("q"), array("q"), array("q")
        self._lines, self._sources = array("q"), array("l")
        self._names: dict[str, int] = {}
        self._decided: tuple[int, Decision] | None = None

    @property
    def complete(self) -> bool:
        """Whether all rows have been added."""
        return self.done >= self._rows

    @property
    def hashes_full(self) -> bool:
        """Whether duplicates among later rows are not detected."""
        return self._sides.is_full

    def note(self, code: str, place: Place) -> None:
        """Add one occurrence of a finding."""
        self.found.setdefault(code, Found()).add(place)

    def add(self, facts: Facts) -> bool:
        """Add a row; returns whether it duplicates an earlier one."""
        self.done += 1
        item, row = facts.item, facts.row
        if item.split == "left_out":
            self._left_out += 1
            return False
        first = 0
        if row is not None:
            first = self._sides.add(item.number, item.split == "validation", content_hash(row))
        if first and self._sides.excludes_duplicates:
            return True
        self.unused.update(facts.item.unused)
        if first:
            self.note("duplicate", _place(facts, f"identical to row {first}", first))
        for code, words in facts.marks.items():
            self.note(code, _place(facts, words))
        if row is None:
            self.bad += 1
            return False
        self._count_tokens(facts)
        if not first:
            self.near.add(item.number, "\n".join(texts_of(row, system=False)))
        for text in texts_of(row):
            self.scripts.add(text)
        answer = answer_of(row)
        if answer is not None:
            self.answers.add(answer, item.number)
        return bool(first)

    def _count_tokens(self, facts: Facts) -> None:
        self.lengths.extend(facts.lengths)
        self.tokens += sum(facts.lengths)
        self.divided += facts.divided
        for part in facts.parts:
            self.cut += part.cut
            self.end_lost += part.answer_cut
        parts = [p for p in facts.parts if p.trained]
        self._pieces.append(len(parts))
        self._fed.append(sum(p.kept for p in parts))
        self._trained.append(sum(p.trained for p in parts))
        self._lines.append(facts.item.line)
        self._sources.append(self._names.setdefault(facts.item.source, len(self._names)))
        total = max(facts.lengths, default=0)
        if len(self.longest) < _LONGEST or total > self.longest[-1][0]:
            self.longest.append((total, _place(facts, f"{total} tokens")))
            self.longest.sort(key=lambda pair: -pair[0])
            del self.longest[_LONGEST:]

    # -------------------------------------------------------------- the split of the rows

    def _decision(self) -> Decision:
        if self._decided is None or self._decided[0] != self.done:
            self._decided = self.done, self._sides.decision(all_rows=self.complete)
        return self._decided[1]

    def split(self) -> SplitTotals:
        """The rows of each split, with their tokens."""
        decision = self._decision()
        pieces, fed, trained = (
            np.array(a, dtype=np.int64) for a in (self._pieces, self._fed, self._trained)
        )
        return SplitTotals(
            train_rows=int(decision.train.sum()),
            validation_rows=int(decision.validation.sum()),
            left_out=self._left_out + self._sides.excluded + decision.duplicates,
            train_pieces=int(pieces[decision.train].sum()),
            fed=int(fed[decision.train].sum()),
            trained=int(trained[decision.train].sum()),
        )

    def leaks(self) -> Found:
        """Validation rows that also occur among the training rows."""
        decision, hashes = self._decision(), self._sides.hashes
        leaking = np.flatnonzero(leaks_among(decision, hashes))
        leaks = Found(len(leaking))
        for index in leaking[:PLACES]:
            twin = int(np.argmax(decision.train & (hashes == hashes[index])))
            other = self._at(twin).number
            note = f"identical to training row {other}"
            leaks.places.append(self._at(int(index), note, other))
        return leaks

    def add_near(self, pairs: Iterable[Pair]) -> None:
        """Add pairs of near-duplicates, after all rows."""
        held_out, numbers = self._decision().validation, self._sides.numbers
        for pair in pairs:
            one, two = np.searchsorted(numbers, (pair.first, pair.second)).tolist()
            across = bool(held_out[one] != held_out[two])
            if across and held_out[one]:
                one, two = two, one  # report the validation row
            other = self._at(one).number
            note = f"{percent(pair.similarity)} similar to {'training ' * across}row {other}"
            self.note("near_leak" if across else "near_duplicate", self._at(two, note, other))

    def _at(self, index: int, note: str = "", other: int = 0) -> Place:
        """The position of a used row."""
        source = list(self._names)[self._sources[index]]
        return Place(self._sides.number(index), source, self._lines[index], note, other)


def _place(facts: Facts, note: str, other: int = 0) -> Place:
    return Place(facts.item.number, facts.item.source, facts.item.line, note, other)
