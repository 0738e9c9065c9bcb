"""Numbers as text: percentages, large counts and durations, the same in window, terminal and run log."""

from __future__ import annotations

import math

_SECONDS = {"s": 1, "min": 60, "h": 3600, "days": 86_400}


def percent(share: float) -> str:
    """A fraction of 0 to 1 as ``86 %``; two digits below ten: ``8.6 %``, ``0.4 %``, ``2 %``."""
    shown = 100 * share
    return f"{shown:.0f} %" if shown >= 9.95 else f"{shown:.2g} %"


def quantity(number: int, noun: str) -> str:
    """``1 row``, ``1,234 rows``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def counted(number: int, digits: int = 2) -> str:
    """``135 M``, ``7.2 B``: an approximate count with at least ``digits`` digits."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * size:  # 999.9 million is 1.0 B, not 1000 M
            value = number / size
            return f"{value:.{max(0, digits - len(str(int(value))))}f} {letter}"
    return str(number)


def duration(seconds: float) -> str:
    """``9.4 s``, ``42 s``, ``3 min 05 s``, ``1 h 12 min``, ``2 days 05 h``: at most two units."""
    total = max(0, round(seconds))
    if total < 10 and total != seconds:
        return f"{max(0.0, seconds):.1f} s"
    if total < 60:
        return f"{total} s"
    for least, large, small in ((172_800, "days", "h"), (3600, "h", "min"), (60, "min", "s")):
        if total >= least:
            first, rest = divmod(total, _SECONDS[large])
            return f"{first} {large} {rest // _SECONDS[small]:02} {small}"
    raise AssertionError("the last unit is reached from 60 s")


def short_duration(seconds: float) -> str:
    """A duration without a second unit of zero: ``5 min`` instead of ``5 min 00 s``."""
    first, _, second = duration(seconds).partition(" 00 ")
    return first if second else duration(seconds)


def time_left(seconds: float) -> str:
    """``8 s left``, ``3 min 05 s left``; without tenths of a second, which are never that certain."""
    return "almost done" if seconds < 1 else f"{duration(round(seconds))} left"


def significant(value: float, digits: int = 4) -> str:
    """A number with a fixed number of significant digits: ``0.3719``, ``5.000``, ``12,345``, ``1.91e-05``."""
    if not math.isfinite(value):
        return str(value)
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.{max(digits - 2, 1)}e}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    short = f"{value:.{digits}g}"
    if float(short) == value:
        return short
    return f"{value:#.{digits}g}".rstrip(".")  # 5.000 beside 4.998
