"""Numbers as text: 0.0002 is shown as 2e-4, and 0,5 is read as 0.5.

Pure functions, so that the number box has no arithmetic of its own. Text and value are exact
inverses: what is shown reads back as the same float.
"""

from __future__ import annotations

import math
from decimal import Decimal

_SMALLEST_PLAIN = -3
_LARGEST_PLAIN = 9


def to_text(value: float) -> str:
    """The shortest text that reads back as this number; small ones as 2e-4, not 2e-04."""
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value) or value == 0:
        return "0" if value == 0 else str(value)
    number = Decimal(repr(value)).normalize()
    power = number.adjusted()
    if _SMALLEST_PLAIN <= power <= _LARGEST_PLAIN:
        return format(number, "f")
    return f"{format(number.scaleb(-power).normalize(), 'f')}e{power}"


def from_text(text: str, integer: bool) -> int | float | None:
    """The number in a text, or ``None``. ``integer`` requires an integer; a single comma is a
    decimal point."""
    plain = text.strip().replace(" ", "").replace("\u202f", "").replace("−", "-")
    if plain.count(",") == 1 and "." not in plain and not integer:
        plain = plain.replace(",", ".")
    if "_" in plain:
        return None
    try:
        number = int(plain) if integer else float(plain)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def may_continue(text: str) -> bool:
    """Whether this may be the beginning of a number (``2e-``, ``-``, ``.``), which is not an error
    yet."""
    plain = text.strip().lower().replace(",", ".")
    if plain in ("", "-", "+", "."):
        return True
    mantissa, e, power = plain.partition("e")
    return bool(e) and power in ("", "-", "+") and from_text(mantissa, integer=False) is not None


def step_plain(value: float, steps: int, step: float) -> float:
    """``value`` moved by ``steps`` steps, without binary rounding errors."""
    if isinstance(value, int) and float(step).is_integer():
        return value + steps * int(step)
    return float(Decimal(repr(float(value))) + steps * Decimal(repr(float(step))))


def step_doubling(value: int, steps: int) -> int:
    """The next powers of two above or below: 12 goes to 16 or to 8."""
    for _ in range(abs(steps)):
        if steps > 0:
            value = 1 << max(value, 0).bit_length() if value > 0 else 1
        else:
            value = 1 << max((value - 1).bit_length() - 1, 0) if value > 1 else 0
    return value


def step_decades(value: float, steps: int) -> float:
    """The next of 1, 2, 5, 10, 20 ... above or below, at any power of ten."""
    for _ in range(abs(steps)):
        value = _decade(value, steps > 0)
    return value


def _decade(value: float, up: bool) -> float:
    if value <= 0:
        return 1e-6 if up else value
    number = Decimal(repr(float(value)))
    power = number.adjusted()
    marks = [Decimal(m).scaleb(p) for p in range(power - 1, power + 2) for m in (1, 2, 5)]
    if up:
        return float(min(m for m in marks if m > number))
    return float(max(m for m in marks if m < number))
