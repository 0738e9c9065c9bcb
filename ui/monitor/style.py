"""How curves are drawn: pens, dashes and the colours of the theme, in one place.

Colours come from ``ui.style.theme`` at the time of drawing, so a theme change needs only a repaint.
"""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QPen

from ui.monitor.curves import CurveSpec
from ui.style import theme

DASHES = {
    "solid": Qt.PenStyle.SolidLine,
    "dash": Qt.PenStyle.DashLine,
    "dot": Qt.PenStyle.DotLine,
    "dashdot": Qt.PenStyle.DashDotLine,
}
FAINT_ALPHA = 95
WIDE_UP_TO_POINTS = 2000
FAINT_WIDTH_PX = 1.0
WIDTH_PX = 1.8


def look() -> theme.Colors:
    """The current colours."""
    return theme.colors()


def color(spec: CurveSpec) -> QColor:
    """A curve's colour; ``faint`` makes the curve drawn above it stand out."""
    found = QColor(look().series[spec.color])
    if spec.faint:
        found.setAlpha(FAINT_ALPHA)
    return found


def pen(spec: CurveSpec, points: int) -> QPen:
    """A curve's pen: wide pens cost four times as much, so long series get a thin one."""
    thin = spec.faint or points > WIDE_UP_TO_POINTS
    made = QPen(color(spec), FAINT_WIDTH_PX if thin else WIDTH_PX, DASHES[spec.dash])
    made.setCosmetic(True)
    return made
