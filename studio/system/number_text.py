"""Numbers as text: percentages and large counts, the same in window, terminal and run log.."""

from __future__ import annotations


def percent(share: float) -> str:
    """A fraction of 0 to 1 as ``86 %``; two digits below ten: ``8.6 %``, ``0.4 %``, ``2 %``."""
    shown = 100 * share
    return f"{shown:.0f} %" if shown >= 9.95 else f"{shown:.2g} %"


def counted(number: int, digits: int = 2) -> str:
    """``135 M``, ``7.2 B``: an approximate count with at least ``digits`` digits."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            value = number / size
            return f"{value:.{max(0, digits - len(str(int(value))))}f} {letter}"
    return str(number)
