"""Arrow keys as directions, and what lies nearest in one: for walking over nodes and over ports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from PySide6.QtCore import QPointF, Qt

T = TypeVar("T")
DIRECTIONS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, -1),
    Qt.Key.Key_Down: (0, 1),
}


def nearest(key: Qt.Key, here: QPointF, places: Iterable[tuple[T, QPointF]]) -> T | None:
    """The nearest of these places in the direction of an arrow key; ``None`` if there is none. What lies aside
    counts as twice as far away."""
    across, down = DIRECTIONS[key]
    best: tuple[float, T] | None = None
    for found, place in places:
        gap = place - here
        along = gap.x() * across + gap.y() * down
        aside = abs(gap.x() * down) + abs(gap.y() * across)
        if along > 1 and (best is None or along + 2 * aside < best[0]):
            best = (along + 2 * aside, found)
    return best[1] if best is not None else None
