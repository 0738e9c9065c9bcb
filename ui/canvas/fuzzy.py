"""Fuzzy search: letters in order are enough; starts of words and runs of letters count more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")


def score(query: str, text: str) -> float | None:
    """How well ``query`` matches ``text``; ``None`` when a letter is missing. Case is ignored."""
    wanted = "".join(query.lower().split())
    found = text.lower()
    total = 0.0
    at = -1
    for letter in wanted:
        start = _word_start(found, letter, at + 1)
        place = start if start is not None else found.find(letter, at + 1)
        if at + 1 < len(found) and found[at + 1] == letter and at >= 0:
            place = at + 1
        if place < 0:
            return None
        if place == at + 1:
            total += 3.0
        elif place == 0 or not found[place - 1].isalnum():
            total += 2.0
        else:
            total += 0.5
        at = place
    return total - 0.01 * len(found)


def _word_start(text: str, letter: str, begin: int) -> int | None:
    for place in range(begin, len(text)):
        if text[place] == letter and (place == 0 or not text[place - 1].isalnum()):
            return place
    return None


def ranked(query: str, items: Iterable[T], text_of: Callable[[T], tuple[str, str]]) -> list[T]:
    """Items that match, best first; ``text_of`` gives (title, more words), the title counts more."""
    if not query.strip():
        return list(items)
    rated: list[tuple[float, int, T]] = []
    for order, item in enumerate(items):
        title, more = text_of(item)
        by_title, by_more = score(query, title), _by_word(query, more)
        best = max(
            by_title + 2.0 if by_title is not None else -1e9,
            by_more if by_more is not None else -1e9,
        )
        if best > -1e8:
            rated.append((-best, order, item))
    return [item for _, _, item in sorted(rated, key=lambda r: r[:2])]


def _by_word(query: str, more: str) -> float | None:
    """Longer texts only match at the beginnings of words, or everything would match."""
    words = more.lower().split()
    asked = query.lower().split()
    return 1.0 if all(any(w.startswith(a) for w in words) for a in asked) else None
