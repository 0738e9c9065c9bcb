"""The writing systems of the data, by their share of all letters.

Counted by Unicode blocks. The language does not follow from the writing system and is not guessed.
"""

from __future__ import annotations

import numpy as np

from studio.preview.report import Share

_RANGES = (
    (0x41, 0x5A, "Latin"),
    (0x61, 0x7A, "Latin"),
    (0xC0, 0x24F, "Latin"),
    (0x370, 0x3FF, "Greek"),
    (0x400, 0x52F, "Cyrillic"),
    (0x530, 0x58F, "Armenian"),
    (0x590, 0x5FF, "Hebrew"),
    (0x600, 0x6FF, "Arabic"),
    (0x700, 0x74F, "Syriac"),
    (0x750, 0x77F, "Arabic"),
    (0x900, 0x97F, "Devanagari"),
    (0x980, 0x9FF, "Bengali"),
    (0xA00, 0xA7F, "Gurmukhi"),
    (0xA80, 0xAFF, "Gujarati"),
    (0xB00, 0xB7F, "Odia"),
    (0xB80, 0xBFF, "Tamil"),
    (0xC00, 0xC7F, "Telugu"),
    (0xC80, 0xCFF, "Kannada"),
    (0xD00, 0xD7F, "Malayalam"),
    (0xD80, 0xDFF, "Sinhala"),
    (0xE00, 0xE7F, "Thai"),
    (0xE80, 0xEFF, "Lao"),
    (0xF00, 0xFFF, "Tibetan"),
    (0x1000, 0x109F, "Burmese"),
    (0x10A0, 0x10FF, "Georgian"),
    (0x1100, 0x11FF, "Hangul"),
    (0x1200, 0x137F, "Ethiopic"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1E00, 0x1EFF, "Latin"),
    (0x1F00, 0x1FFF, "Greek"),
    (0x3040, 0x30FF, "Japanese kana"),
    (0x3400, 0x4DBF, "Han"),
    (0x4E00, 0x9FFF, "Han"),
    (0xAC00, 0xD7AF, "Hangul"),
    (0xF900, 0xFAFF, "Han"),
    (0xFB50, 0xFDFF, "Arabic"),
    (0xFE70, 0xFEFF, "Arabic"),
    (0x20000, 0x3134F, "Han"),
)
_STARTS = np.array([r[0] for r in _RANGES])
_ENDS = np.array([r[1] for r in _RANGES])
_MOST_CHARACTERS = 2000
_LEAST_SHARE = 0.001


class Scripts:
    """Counts the letters of the first 2000 characters of each row."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_RANGES), dtype=np.int64)

    def add(self, text: str) -> None:
        """Count the letters of a row."""
        raw = text[:_MOST_CHARACTERS].encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(raw, dtype="<u4").astype(np.int64)
        place = np.searchsorted(_STARTS, codes, side="right") - 1
        known = (place >= 0) & (codes <= _ENDS[place])
        self._counts += np.bincount(place[known], minlength=len(_RANGES))

    def shares(self) -> tuple[Share, ...]:
        """Every script with at least a thousandth of the letters, in descending order."""
        counts: dict[str, int] = {}
        for (_, _, name), count in zip(_RANGES, self._counts, strict=True):
            counts[name] = counts.get(name, 0) + int(count)
        total = sum(counts.values())
        found = [Share(n, round(c / total, 4)) for n, c in counts.items() if c] if total else []
        kept = [s for s in found if s.share >= _LEAST_SHARE]
        return tuple(sorted(kept, key=lambda s: -s.share))
