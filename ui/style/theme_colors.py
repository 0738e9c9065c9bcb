"""The colours of both schemes as plain data, and the calculation of their contrast.

They are separate from ``ui.style.theme``, so that they can be tested without an application. This
file must not touch widgets or palettes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from PySide6.QtGui import QColor


@dataclass(frozen=True)
class Colors:
    """The colours of one scheme.

    ``background`` is the canvas and plots, ``surface`` panels, ``surface_raised`` cards and
    buttons. ``border`` separates; ``border_strong`` outlines what can be operated (at least 3:1).
    ``text_on_accent`` goes on ``accent``, ``success``, ``warning`` and ``danger`` alike.
    ``series`` are for plots, in order (Okabe and Ito, safe for colour-blind readers); always pair
    them with a dash or marker.
    """

    name: str
    background: QColor
    surface: QColor
    surface_raised: QColor
    border: QColor
    border_strong: QColor
    text: QColor
    text_muted: QColor
    text_on_accent: QColor
    accent: QColor
    success: QColor
    warning: QColor
    danger: QColor
    grid: QColor
    shadow: QColor
    ports: Mapping[str, QColor]
    categories: Mapping[str, QColor]
    series: tuple[QColor, ...]

    @property
    def dark(self) -> bool:
        """Whether this is the dark scheme."""
        return self.name == "dark"

    def port(self, type_id: str) -> QColor:
        """The colour of a port type; an unknown one is neutral."""
        return self.ports.get(type_id, self.text_muted)

    def category(self, name: str) -> QColor:
        """The tint of a node category; an unknown one is neutral."""
        return self.categories.get(name, self.text_muted)


def _table(**values: str) -> Mapping[str, QColor]:
    return MappingProxyType({key: QColor(value) for key, value in values.items()})


def _series(*values: str) -> tuple[QColor, ...]:
    return tuple(QColor(value) for value in values)


DARK = Colors(
    name="dark",
    background=QColor("#15171c"),
    surface=QColor("#1c1f26"),
    surface_raised=QColor("#272b34"),
    border=QColor("#3a404c"),
    border_strong=QColor("#747e90"),
    text=QColor("#e8eaf0"),
    text_muted=QColor("#a3acbb"),
    text_on_accent=QColor("#0d1117"),
    accent=QColor("#74aaff"),
    success=QColor("#56c990"),
    warning=QColor("#f2b84b"),
    danger=QColor("#ff8080"),
    grid=QColor("#2e333d"),
    shadow=QColor(0, 0, 0, 90),
    ports=_table(
        dataset="#f0a35e",
        model="#6cb2f5",
        adapted_model="#c594f2",
        adapter="#5fcf9b",
        report="#e8d463",
    ),
    categories=_table(Data="#f0a35e", Model="#6cb2f5", Training="#c594f2", Result="#5fcf9b"),
    series=_series(
        "#56b4e9", "#e69f00", "#00b487", "#cc79a7", "#f0e442", "#e4691c", "#3d9ad6", "#bbbbbb"
    ),
)

LIGHT = Colors(
    name="light",
    background=QColor("#f3f4f7"),
    surface=QColor("#fafbfc"),
    surface_raised=QColor("#ffffff"),
    border=QColor("#cdd3dc"),
    border_strong=QColor("#7b8595"),
    text=QColor("#1a1e26"),
    text_muted=QColor("#596271"),
    text_on_accent=QColor("#ffffff"),
    accent=QColor("#1f62d0"),
    success=QColor("#137547"),
    warning=QColor("#8f5600"),
    danger=QColor("#c0282f"),
    grid=QColor("#d8dce4"),
    shadow=QColor(30, 40, 60, 28),
    ports=_table(
        dataset="#b85d00",
        model="#1c6fc2",
        adapted_model="#8a43c4",
        adapter="#12804d",
        report="#857000",
    ),
    categories=_table(Data="#b85d00", Model="#1c6fc2", Training="#8a43c4", Result="#12804d"),
    series=_series(
        "#0072b2", "#d55e00", "#009e73", "#b3588b", "#b07a00", "#7a7000", "#2f8fc7", "#444444"
    ),
)


def blend(base: QColor, over: QColor, share: float) -> QColor:
    """``base`` with ``share`` (0 to 1) of ``over`` mixed in; opaque."""
    red, green, blue = (
        b + (o - b) * share for b, o in zip(_channels(base), _channels(over), strict=True)
    )
    return QColor.fromRgbF(red, green, blue)


def contrast(first: QColor, second: QColor) -> float:
    """Contrast ratio of two opaque colours, 1 to 21 (WCAG 2.1)."""
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _channels(color: QColor) -> tuple[float, float, float]:
    return color.redF(), color.greenF(), color.blueF()


def _luminance(color: QColor) -> float:
    red, green, blue = (
        c / 12.92 if c <= 0.03928 else math.pow((c + 0.055) / 1.055, 2.4) for c in _channels(color)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
