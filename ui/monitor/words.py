"""Numbers as text: durations, sizes, dates, metrics.

They are shared, so that the header, the log, the results and the list of runs use the same format.
Plain functions without Qt.
"""

from __future__ import annotations

import math
import time
from datetime import date

from studio.system import number_text as numbers

MISSING = "–"


def duration(seconds: float | None) -> str:
    """A duration as everywhere in the program; a dash when unknown."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return MISSING
    return numbers.duration(seconds)


def size(count: float | None) -> str:
    """Bytes in the unit of a file manager: ``98.2 MB``."""
    if count is None:
        return MISSING
    value = float(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if value < 1000 or unit == "GB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    raise AssertionError("the last unit ends the loop")


def number_text(value: float | None, digits: int = 4) -> str:
    """A number with a fixed number of significant digits; a dash if unknown."""
    if value is None:
        return MISSING
    return numbers.significant(value, digits)


def clock(when: float) -> str:
    """Time of day of a Unix time: ``14:03:22``."""
    return time.strftime("%H:%M:%S", time.localtime(when))


def day_and_time(when: float | None, now: float | None = None) -> str:
    """``Today 14:03``, ``Yesterday 09:10`` or ``2026-11-03 09:10``."""
    if when is None:
        return MISSING
    moment, today = time.localtime(when), time.localtime(now)
    hour = time.strftime("%H:%M", moment)
    days = (date(*today[:3]) - date(*moment[:3])).days
    if days == 0:
        return f"Today {hour}"
    if days == 1:
        return f"Yesterday {hour}"
    return time.strftime("%Y-%m-%d %H:%M", moment)
