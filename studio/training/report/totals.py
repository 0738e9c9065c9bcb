"""Totals of the data report over all rows.

Memory is bounded for any number of rows: token counts, one hash per row, the first positions of
each finding. Rows are read and encoded elsewhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from studio.data.canonical import content_hash
from studio.preview.report import Place, Repeat
from studio.system.number_text import percent
from studio.training.report.near_duplicates import NearDuplicates, Pair
from studio.training.report.row_checks import answer_of, texts_of
from studio.training.report.row_facts import Facts
from studio.training.report.row_index import MOST_HASHES
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


class Totals:
    """All totals so far."""

    def __init__(self, *, deduplicate: bool = False, move_leaks: bool = False) -> None:
        self._deduplicate, self._move_leaks = deduplicate, move_leaks
        self.found: dict[str, Found] = {}
        self.left_out = 0
        self.done = self.bad = self.train_rows = self.validation_rows = 0
        self.tokens = self.fed = self.trained = self.cut = self.divided = self.end_lost = 0
        self.lengths = array("q")
        self.longest: list[tuple[int, Place]] = []
        self.answers = Answers()
        self.scripts = Scripts()
        self.near = NearDuplicates()
        self._first: dict[int, int] = {}
        self._trained: dict[int, int] = {}
        self._held_out: list[tuple[int, Place, int, int]] = []
        self._places: dict[int, tuple[Place, bool]] = {}

    @property
    def hashes_full(self) -> bool:
        """Whether duplicates among later rows are not detected."""
        return len(self._first) >= MOST_HASHES

    def note(self, code: str, place: Place) -> None:
        """Add one occurrence of a finding."""
        self.found.setdefault(code, Found()).add(place)

    def add(self, facts: Facts) -> bool:
        """Add a row; returns whether it duplicates an earlier one."""
        self.done += 1
        if facts.item.split == "left_out":
            self.left_out += 1
            return False
        again = facts.row is not None and self._again(facts)
        if again and self._deduplicate:
            self.left_out += 1
            return True
        for code, words in facts.marks.items():
            self.note(code, _place(facts, words))
        if facts.row is None:
            self.bad += 1
            return False
        self._count_tokens(facts)
        self._compare(facts, again)
        for text in texts_of(facts.row):
            self.scripts.add(text)
        answer = answer_of(facts.row)
        if answer is not None:
            self.answers.add(answer, facts.item.number)
        return again

    def _count_tokens(self, facts: Facts) -> None:
        training = facts.item.split == "train"
        self.train_rows += training
        self.validation_rows += not training
        self.lengths.extend(facts.lengths)
        self.tokens += sum(facts.lengths)
        self.divided += facts.divided
        for part in facts.parts:
            self.cut += part.cut
            self.end_lost += part.answer_cut
        if training:
            fed, trained = _fed(facts)
            self.fed += fed
            self.trained += trained
        total = max(facts.lengths, default=0)
        if len(self.longest) < _LONGEST or total > self.longest[-1][0]:
            self.longest.append((total, _place(facts, f"{total} tokens")))
            self.longest.sort(key=lambda pair: -pair[0])
            del self.longest[_LONGEST:]

    # -------------------------------------------------------------- rows that say the same

    def _again(self, facts: Facts) -> bool:
        """Whether an earlier row has the same content."""
        assert facts.row is not None
        code = content_hash(facts.row)
        first = self._first.get(code)
        if first is None and not self.hashes_full:
            self._first[code] = facts.item.number
        if first is not None and not self._deduplicate:
            self.note("duplicate", _place(facts, f"identical to row {first}", first))
        return first is not None

    def _compare(self, facts: Facts, again: bool) -> None:
        """Store what is needed to find leaks and near-duplicates."""
        assert facts.row is not None
        number, code = facts.item.number, content_hash(facts.row)
        held_out = facts.item.split == "validation"
        if held_out:
            kept, trained = _fed(facts)
            self._held_out.append((code, _place(facts, ""), kept, trained))
        elif not self.hashes_full:
            self._trained.setdefault(code, number)
        if not again and not self.near.is_full:
            self._places[number] = (_place(facts, ""), held_out)
            self.near.add(number, "\n".join(texts_of(facts.row, system=False)))

    def leaks(self) -> Found:
        """Validation rows that also occur among the training rows."""
        leaks = Found()
        for code, place, _, _ in () if self._move_leaks else self._held_out:
            if (other := self._trained.get(code)) is not None:
                note = f"identical to training row {other}"
                leaks.add(Place(place.number, place.source, place.line, note, other))
        return leaks

    def moved(self) -> tuple[int, int, int]:
        """Rows that move to training because they leak, with their tokens and trained tokens."""
        if not self._move_leaks:
            return 0, 0, 0
        moved = [(fed, trained) for c, _, fed, trained in self._held_out if c in self._trained]
        return len(moved), sum(m[0] for m in moved), sum(m[1] for m in moved)

    def add_near(self, pairs: Iterable[Pair]) -> None:
        """Add pairs of near-duplicates."""
        for pair in pairs:
            one, two = self._places[pair.first], self._places[pair.second]
            across = one[1] != two[1]
            if across and one[1]:
                one, two = two, one  # report the validation row
            place, other = two[0], one[0].number
            note = f"{percent(pair.similarity)} similar to {'training ' * across}row {other}"
            code = "near_leak" if across else "near_duplicate"
            self.note(code, Place(place.number, place.source, place.line, note, other))


def _fed(facts: Facts) -> tuple[int, int]:
    """The row's tokens per epoch, and how many of them are trained."""
    parts = [p for p in facts.parts if p.trained]
    return sum(p.kept for p in parts), sum(p.trained for p in parts)


def _place(facts: Facts, note: str, other: int = 0) -> Place:
    return Place(facts.item.number, facts.item.source, facts.item.line, note, other)
